"""Where the work of a stream is done: by tasks of Ray, or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.evaluation.protocol import Protocol
from grmp_core.model.bundle import Bundle
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import EncodedTarget, encode_target
from pipelines.results.stream_folder import Cell
from pipelines.runtime.capacity import require_trial
from pipelines.runtime.ray_session import ray_session
from pipelines.streaming_sets.stream_step import Step, learn, measure


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The three kinds of work, each called with what its function takes."""

    encode: Callable[[Config, LabelledSet, Bundle, Protocol], EncodedTarget]
    learn: Callable[[Step], None]
    measure: Callable[[Config, Bundle, str, Sequence[str]], list[Cell]]


@contextmanager
def on_ray(config: Config) -> Iterator[Workers]:
    """Tasks of the size of a trial; images are encoded by all CPUs or GPUs. InputError where none of them fits."""
    with ray_session():
        require_trial(config, "a step of the stream wants")
        resources: dict[str, Any] = {"num_cpus": config.sweep.cpus_per_trial, "num_gpus": config.sweep.gpus_per_trial}
        learning, measuring = ray.remote(**resources)(learn), ray.remote(**resources)(measure)
        yield Workers(
            encode=partial(encode_target, gpus_per_worker=config.sweep.gpus_per_trial),
            learn=lambda step: ray.get(learning.remote(step)),
            measure=lambda *given: ray.get(measuring.remote(*given)),
        )


@contextmanager
def in_process(config: Config) -> Iterator[Workers]:
    """Everything in this process, one after the other."""
    yield Workers(encode=partial(encode_target, here=True), learn=learn, measure=measure)

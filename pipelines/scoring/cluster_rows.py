"""Rows of files by workers that hold a model, over Ray Data: what scoring, explaining and videos share."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray import ObjectRef
from ray.data import ActorPoolStrategy

from grmp_core.model.bundle import Bundle
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.runtime.capacity import how_many_fit, require
from pipelines.runtime.progress import Progress
from pipelines.runtime.ray_session import ray_session

BLOCKS_OF_A_WORKER = 8
"""At least so many, so that all workers end at about the same time."""


def rows_on_cluster(
    config: Config,
    bundle: Bundle | None,
    worker: type,
    given: tuple[Any, ...],
    inputs: Sequence[dict[str, Any]],
    *,
    command: str,
    unit: str,
    rows_of_a_block: int,
    rows_of_a_call: int = 1,
) -> Iterator[dict[str, Any]]:
    """The rows that workers make of `inputs`, in any order, as they come.

    Args:
        bundle: that workers hold; null where they hold none.
        worker: made of `given` and the content of the backbone's own file, for nodes that do not see it (a list, empty
            where the backbone has none); called with Arrow tables of inputs.
        command, unit: for the progress, such as score and image.
        rows_of_a_block: the rows of a block come when all of them are done.

    Raises:
        InputError: the cluster has no room for the workers that `score.workers` and `score.gpus_per_worker` ask for.
    """
    if not inputs:
        return
    settings, weights = config.score, bundle and bundle.backbone.checkpoint
    with ray_session():
        shipped = [ray.put(Path(weights).read_bytes())] if weights else []
        share = {"GPU": settings.gpus_per_worker} if settings.gpus_per_worker else {"CPU": 1.0}
        fix = "lower score.workers or score.gpus_per_worker (0: on CPUs)"
        require(share, settings.workers or 1, config.wait_for_nodes_s, f"grmp {command} wants", fix)
        pool = min(settings.workers or how_many_fit(share), len(inputs))
        blocks = max(min(len(inputs), BLOCKS_OF_A_WORKER * pool), len(inputs) // rows_of_a_block)
        made = ray.data.from_items(list(inputs), override_num_blocks=blocks).map_batches(
            worker,
            fn_constructor_args=(*given, shipped),
            batch_size=rows_of_a_call,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=pool),
            num_gpus=settings.gpus_per_worker or None,
        )
        began_s, done = time.monotonic(), 0
        parts: Iterator[pa.Table] = iter(made.iter_batches(batch_size=None, batch_format="pyarrow"))  # a block each
        first = next(parts)  # before the bar, which Ray's lines about the start of its workers would tear
        with Progress(command, len(inputs), unit, waited_s=time.monotonic() - began_s) as progress:
            for part in itertools.chain([first], parts):
                done += part.num_rows
                progress.to(done)
                yield from part.to_pylist()


def with_weights_here(bundle: Bundle, weights: list[ObjectRef[bytes]]) -> Bundle:
    """The bundle, with its backbone's weights in a file of this node where it does not see the driver's."""
    checkpoint = bundle.backbone.checkpoint
    if checkpoint is None or os.path.isfile(checkpoint):  # False also where its folder may not be entered
        return bundle
    folder = Path(tempfile.gettempdir(), f"grmp-weights-{bundle.backbone_sha256[:16]}")
    file = locate(folder / Path(checkpoint).name)
    if not file.exists():
        file.write_bytes(ray.get(weights[0]))
    return dataclasses.replace(bundle, backbone=dataclasses.replace(bundle.backbone, checkpoint=file.path))

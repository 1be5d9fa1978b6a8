"""The sets of a stream as their files name them, checked before anything is encoded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.learning.few_shot import folds_of
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.configuration.yaml_reading import read_yaml
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.target_splits import split_table
from pipelines.runtime.console import say

MIN_TEST_IMAGES = 5
"""The logistic map of four parameters needs as many; SRCC of so few says little."""
_NAME = re.compile(r"[\w.-]{1,60}")


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamSet:
    """One set of a stream."""

    name: str
    target: TargetConfig
    labelled: LabelledSet | None
    """Null where it cannot be read (any more)."""
    gone_because: str = ""

    @cached_property
    def labels(self) -> str | None:
        """Fingerprint of the labels; null where they cannot be read."""
        return None if self.labelled is None else self.labelled.fingerprint()


def read_sets(files: Sequence[str]) -> list[StreamSet]:
    """The sets of `continual.sets`, in their order; of one that cannot be read the reason.

    InputError for no file, a file that is no configuration, a name that is taken or unfit, and equal labels.
    """
    if not files:
        raise InputError("no sets: name a configuration file for each with --sets a.yaml b.yaml (or continual.sets)")
    sets: list[StreamSet] = []
    for file in files:
        name = Path(file).stem
        if not _NAME.fullmatch(name):
            raise InputError(f"set {file}: its file's name names it; use up to 60 letters, digits, '.', '_' and '-'")
        if name in (known.name for known in sets):
            raise InputError(f"set {name} is already in the stream: rename {file} if it is another one")
        others = sorted(set(read_yaml(Path(file))) - {"target"})
        if others:
            say(f"continual: of {file} only target is read, not {', '.join(others)}")
        target = load_config(file, say=lambda line: None).target
        try:
            one = StreamSet(name=name, target=target, labelled=load_target(target))
        except InputError as error:
            one = StreamSet(name=name, target=target, labelled=None, gone_because=str(error))
        same = next((known.name for known in sets if known.labels == one.labels is not None), None)
        if same is not None:
            raise InputError(f"set {name} is already in the stream as {same}: each set comes once; leave it out")
        sets.append(one)
    return sets


def protocol_of(config: Config, one: StreamSet, labelled: LabelledSet) -> Protocol:
    """The set's division into a training and a test part.

    InputError, with the set's name, where the training part has fewer images than validation needs, or the test part
    fewer than five.
    """
    try:
        protocol = Protocol(splits=split_table(config.sweep, labelled), quality_N=labelled.quality)
        parts = protocol.parts(config.sweep.split_seeds[0])
        if len(parts.test) < MIN_TEST_IMAGES:
            raise InputError(
                f"its test part has {len(parts.test)} of {len(labelled)} images, {MIN_TEST_IMAGES} are needed; label "
                "more images, or raise sweep.test_fraction"
            )
        ids = np.array(labelled.reference_ids)[parts.train].tolist()
        folds_of(config.adapt, ids, config.seed)
    except InputError as error:
        raise InputError(f"set {one.name}: {error}") from error
    return protocol


def check_shared_images(image_ids: dict[str, Sequence[str]]) -> None:
    """InputError where an image is in two sets: a test part would hold what another set has taught."""
    set_of: dict[str, str] = {}
    for name, ids in image_ids.items():
        shared = [image for image in ids if image in set_of]
        if shared:
            raise InputError(
                f"set {name} has {len(shared)} images in common with {set_of[shared[0]]}, already in the stream; leave "
                "them out of its labels"
            )
        set_of |= dict.fromkeys(ids, name)


def config_of_set(config: Config, one: StreamSet) -> Config:
    """The run's configuration with the set as its target."""
    return replace(config, target=one.target)


def say_gone(one: StreamSet) -> None:
    say(f"continual: set {one.name} cannot be read ({one.gone_because}); what the output keeps of it is used")

"""The labelled images of a configuration, and what was left out of them."""

from __future__ import annotations

from collections.abc import Sequence

from grmp_core import datasets
from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import InputError
from pipelines.configuration.workloads import TargetConfig
from pipelines.runtime.console import say


def load_target(config: TargetConfig) -> LabelledSet:
    """The labelled set a configuration names. InputError as the loaders raise it."""
    if not config.path:
        raise InputError("target.path is not set: give the folder or file of the labelled images (target.dataset, too)")
    labelled = datasets.load(
        config.dataset,
        config.path,
        image_column=config.image_column,
        score_column=config.score_column,
        reference_column=config.reference_column,
        score_min=config.score_min,
        score_max=config.score_max,
        higher_is_better=config.higher_is_better,
        max_rejects=config.max_rejects,
        max_missing_fraction=config.max_missing_fraction,
    )
    for note in labelled.notes:
        say(f"target: {note}")
    return labelled


def bad_rows(target: LabelledSet) -> tuple[dict[str, str], ...]:
    """Path and reason of the label rows that loading has left out."""
    return tuple({"path": reject.path, "reason": reject.reason} for reject in target.rejected)


def check_rejects(config: TargetConfig, num_images: int, rejected: Sequence[dict[str, str]]) -> None:
    """Say what is left out. InputError when that is more than target.max_rejects allows."""
    for reject in rejected:
        say(f"target: skipped {reject['path']}: {reject['reason']}")
    if len(rejected) > config.max_rejects * num_images:
        raise InputError(
            f"{len(rejected)} of {num_images} target images cannot be used (first: {rejected[0]['path']}: "
            f"{rejected[0]['reason']}); repair them or raise target.max_rejects"
        )

"""The labelled images of a configuration, and those that are left out of them."""

from __future__ import annotations

from collections.abc import Sequence

from grmp_core import datasets
from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.datasets.rejects import refuse_too_many
from grmp_core.errors import InputError
from pipelines.configuration.workloads import TargetConfig
from pipelines.runtime.console import say


def load_target(config: TargetConfig) -> LabelledSet:
    """The labelled set that a configuration names. InputError as `datasets.load` raises it.

    Notes of the loader, and how many label rows are left out, are said once.
    """
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
        image_folder=config.image_folder,
        max_reject_fraction=config.max_reject_fraction,
    )
    for note in labelled.notes:
        say(f"target: {note}")
    if labelled.rejected:
        first = labelled.rejected[0]
        say(f"target: {len(labelled.rejected)} label rows left out; the first: {first.reason} ({first.path})")
    return labelled


def bad_rows(target: LabelledSet) -> tuple[dict[str, str], ...]:
    """Path and reason of the label rows that loading has left out."""
    return tuple({"path": reject.path, "reason": reject.reason} for reject in target.rejected)


def check_rejects(
    config: TargetConfig,
    num_images: int,
    unreadable: Sequence[dict[str, str]],
    left_out: Sequence[dict[str, str]] = (),
) -> None:
    """Say which of the images cannot be read. InputError when they and the label rows that loading has left out
    (`bad_rows`) are a larger share of all rows than target.max_reject_fraction."""
    for reject in unreadable:
        say(f"target: skipped {reject['path']}: {reject['reason']}")
    reasons = [f"{reject['path']}: {reject['reason']}" for reject in (*unreadable, *left_out)]
    refuse_too_many(
        reasons, num_images + len(left_out), config.max_reject_fraction, "target images", "target.max_reject_fraction"
    )

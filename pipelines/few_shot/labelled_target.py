"""The labelled images of a configuration, and those that are left out of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grmp_core import datasets
from grmp_core.datasets.description import is_description
from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.datasets.rejects import refuse_too_many
from grmp_core.errors import InputError
from grmp_core.inspection.leaks import leaked, training_hashes
from grmp_core.model.backbone import BackboneConfig
from grmp_core.ratings.rated_set import load_votes, votes_file
from pipelines.configuration.labels import TargetConfig
from pipelines.runtime.console import say


def has_target(config: TargetConfig) -> bool:
    """Whether a configuration names labelled images: a description says itself where they are."""
    return bool(config.path) or is_description(config.dataset)


def load_target(config: TargetConfig) -> LabelledSet:
    """The labelled set that a configuration names. InputError as `datasets.load` raises it.

    Notes of the loader, and how many label rows are left out, are said once.
    """
    if not has_target(config):
        raise InputError("target.path is not set: give the folder or file of the labelled images (target.dataset, too)")
    labelled = _load_votes(config) or datasets.load(
        config.dataset,
        config.path,
        image_column=config.image_column,
        score_column=config.score_column,
        reference_column=config.reference_column,
        weight_column=config.weight_column,
        score_min=config.score_min,
        score_max=config.score_max,
        higher_is_better=config.higher_is_better,
        image_folder=config.image_folder,
        deviation_column=config.deviation_column,
        votes=config.votes,
        max_reject_fraction=config.max_reject_fraction,
    )
    for note in labelled.notes:
        say(f"target: {note}")
    if labelled.rejected:
        first = labelled.rejected[0]
        say(f"target: {len(labelled.rejected)} label rows left out; the first: {first.reason} ({first.path})")
    return labelled


def _load_votes(config: TargetConfig) -> LabelledSet | None:
    """Labels of the vote log or the rankings that a configuration names; null where it names something else."""
    is_table = config.dataset == "table" and not (config.image_column or config.score_column)
    file = votes_file(config.path) if is_table and config.path else None
    if file is None:
        if config.vote_references or config.vote_labels != "mean":
            raise InputError(f"target.vote_references and target.vote_labels are of a vote log; {config.path} is none")
        return None
    if config.reference_column or config.deviation_column or config.votes:
        raise InputError(f"{file} has votes: target.reference_column, deviation_column and votes are of a table")
    if config.higher_is_better is not None and config.higher_is_better == bool(config.vote_references):
        is_other = "differences, where higher is worse" if config.vote_references else "votes, where higher is better"
        raise InputError(f"{file} gives {is_other}: leave target.higher_is_better out")
    return load_votes(
        file,
        config.max_reject_fraction,
        method=config.vote_labels,
        score_range=datasets.score_range_of(config.score_min, config.score_max),
        image_folder=config.image_folder,
        use_weights=config.weight_column != "",
        references=config.vote_references,
    )


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


def check_leaks(
    config: TargetConfig,
    backbone: BackboneConfig,
    paths: Sequence[str],
    hashes_N: np.ndarray,
    takes_part_N: np.ndarray,
) -> None:
    """Say which images are near-duplicates of photos that a backbone was trained on. InputError where they are trained
    or tested on, unless target.allow_leaks.

    Nothing happens with a backbone whose training photos nobody knows.
    """
    known = training_hashes(backbone.name, backbone.checkpoint)
    if known is None:
        return
    found = [path for path, bad in zip(paths, leaked(hashes_N, known) & takes_part_N, strict=True) if bad]
    if not found:
        return
    line = (
        f"{len(found)} of {len(paths)} target images are near-duplicates of training photos of {backbone.name}, "
        f"the first: {found[0]}"
    )
    if not config.allow_leaks:
        raise InputError(
            f"{line}; leave them out by a split file of `grmp inspect --write-splits` in sweep.splits (`grmp adapt`, "
            "which takes all labels: out of the label table), or set target.allow_leaks"
        )
    say(f"target: {line}; allowed by target.allow_leaks")

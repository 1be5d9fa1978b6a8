"""Labelled image sets: published ones by their description, and any table; all give the same columns."""

import difflib
import os

from grmp_core.datasets.described_set import load_described
from grmp_core.datasets.description import is_description, published, read_description
from grmp_core.datasets.label_table import load_table
from grmp_core.datasets.labelled_set import IMAGE_TABLE, LabelledSet, Reject
from grmp_core.datasets.set_layout import reference_folder
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange

__all__ = [
    "DATASETS",
    "IMAGE_TABLE",
    "LabelledSet",
    "Reject",
    "ScoreRange",
    "distortions_of",
    "load",
    "originals_of",
    "score_range_of",
]

DATASETS: tuple[str, ...] = (*published(), "table")
"""Names that `load` takes, beside the file of a description."""


def load(
    name: str,
    path: str | None,
    *,
    image_column: str | None = None,
    score_column: str | None = None,
    reference_column: str | None = None,
    weight_column: str | None = None,
    score_min: float | None = None,
    score_max: float | None = None,
    higher_is_better: bool | None = None,
    image_folder: str | None = None,
    deviation_column: str | None = None,
    votes: str | None = None,
    max_reject_fraction: float = 0.0,
) -> LabelledSet:
    """Load a labelled set by name from where it was downloaded to.

    Args:
        name: one of `DATASETS`, or the .yaml file of a description.
        path: the download's folder; for `table` a table, or the folder that holds one; null for a description: the
            folder that it is in.
        image_column, score_column, reference_column: of a `table`; null: image and score are recognized by usual names,
            references are not.
        weight_column: of a `table`, how much a label counts in training; null: a column called weight, where there is
            one; an empty text: none.
        score_min, score_max: the scale of a `table`'s scores; both or neither. Neither takes the observed range.
        higher_is_better: False where a `table` holds difference scores; null: True, but for a column called dmos it has
            to be given, unless originals among the images tell (`load_table`).
        image_folder: folder that the image names of a `table` are relative to, itself relative to the table's folder;
            null: the table's folder.
        deviation_column, votes: of a `table`, as of `load_table`.
        max_reject_fraction: share of the label rows, in [0, 1], that may be left out and listed (no image, no number,
            a score outside the scale); with more, loading is refused.

    Returns:
        The set; what was left out stands in `rejected`, with file, line and reason.

    Raises:
        InputError: unknown name, another layout than the set's, labels not readable, a column missing, an image rated
            in several rows, constant scores, too many rejects.
    """
    if not 0 <= max_reject_fraction <= 1:
        raise InputError(f"max_reject_fraction must be from 0 to 1, not {max_reject_fraction}")
    if is_description(name):
        where = path or os.path.dirname(os.path.abspath(os.path.expanduser(name)))
        return load_described(_stem(name), read_description(name), where, max_reject_fraction)
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"unknown dataset {name!r}; choose one of {', '.join(DATASETS)}, or a description (.yaml){hint}"
        )
    if not path:
        raise InputError(f"dataset {name}: no path; give the file or folder of the labelled images")
    if name != "table":
        return load_described(name, read_description(published()[name]), path, max_reject_fraction)
    return load_table(
        path,
        max_reject_fraction,
        image_column=image_column,
        score_column=score_column,
        reference_column=reference_column,
        weight_column=weight_column,
        score_range=score_range_of(score_min, score_max),
        deviation_column=deviation_column,
        votes=votes,
        higher_is_better=higher_is_better,
        image_folder=image_folder,
    )


def score_range_of(score_min: float | None, score_max: float | None) -> ScoreRange | None:
    """The scale between two given ends; null where neither is given. InputError where one is."""
    if (score_min is None) != (score_max is None):
        raise InputError("score range: give both score_min and score_max, or neither")
    return None if score_min is None or score_max is None else ScoreRange(mos_min=score_min, mos_max=score_max)


def distortions_of(name: str) -> tuple[str, ...]:
    """Names of a published set's distortion types, in its own order."""
    return tuple(read_description(published()[name]).distortions.values())


def originals_of(name: str, path: str) -> str:
    """Folder of the pristine originals of a published set. InputError where it has none, or they are not there."""
    return reference_folder(read_description(published()[name]), path)


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]

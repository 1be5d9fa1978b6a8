"""Labelled image sets: one loader a published set, and one for any table; all give the same columns."""

import difflib

from grmp_core.datasets.kadid_tid import load_kadid10k, load_tid2013
from grmp_core.datasets.label_table import load_table
from grmp_core.datasets.labelled_set import IMAGE_TABLE, LabelledSet, Reject
from grmp_core.datasets.livec import load_livec
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange

__all__ = ["DATASETS", "IMAGE_TABLE", "LabelledSet", "Reject", "ScoreRange", "load"]

_PUBLISHED = {"kadid10k": load_kadid10k, "livec": load_livec, "tid2013": load_tid2013}
DATASETS: tuple[str, ...] = (*_PUBLISHED, "table")
"""Names that `load` takes."""


def load(
    name: str,
    path: str,
    *,
    image_column: str = "image",
    score_column: str = "mos",
    reference_column: str | None = None,
    score_min: float | None = None,
    score_max: float | None = None,
    higher_is_better: bool = True,
    image_folder: str | None = None,
    max_reject_fraction: float = 0.0,
) -> LabelledSet:
    """Load a labelled set by name from where it was downloaded to.

    Args:
        name: one of `DATASETS`.
        path: the download's folder; for `table` a .csv or .parquet file, or the folder that holds one.
        image_column, score_column, reference_column: of a `table`; the published sets have their own.
        score_min, score_max: the scale of a `table`'s scores; both or neither. Neither takes the observed range.
        higher_is_better: False where a `table` holds difference scores.
        image_folder: folder that the image names of a `table` are relative to, itself relative to the table's folder;
            null: the table's folder.
        max_reject_fraction: share of the label rows, in [0, 1], that may be left out and listed (no image, no number,
            a score outside the scale); with more, loading is refused.

    Returns:
        The set; what was left out stands in `rejected`, with file, line and reason.

    Raises:
        InputError: unknown name, labels missing or not readable, a column missing, an image rated in several rows,
            constant scores, too many rejects.
    """
    if not 0 <= max_reject_fraction <= 1:
        raise InputError(f"max_reject_fraction must be from 0 to 1, not {max_reject_fraction}")
    if name in _PUBLISHED:
        return _PUBLISHED[name](path, max_reject_fraction)
    if name != "table":
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown dataset {name!r}; choose one of {', '.join(DATASETS)}{hint}")
    if (score_min is None) != (score_max is None):
        raise InputError("score range: give both score_min and score_max, or neither")
    score_range = None
    if score_min is not None and score_max is not None:
        score_range = ScoreRange(mos_min=score_min, mos_max=score_max, higher_is_better=higher_is_better)
    return load_table(
        path,
        max_reject_fraction,
        image_column=image_column,
        score_column=score_column,
        reference_column=reference_column,
        score_range=score_range,
        higher_is_better=higher_is_better,
        image_folder=image_folder,
    )

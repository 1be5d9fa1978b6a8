"""Score columns of differences (DMOS), and of scores with a standard deviation."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grmp_core.datasets.certainty import reliabilities
from grmp_core.datasets.labelled_set import LabelRow, parse_score
from grmp_core.errors import InputError


def direction_of(
    table: str, column: str, rows: Sequence[LabelRow], given: bool | None, *, with_references: bool
) -> tuple[bool, list[str]]:
    """Whether a higher score is a better image, and what is to be said of it.

    A setting decides. Without one a column is of scores, unless its name says dmos: some of these rise with quality,
    others fall. Where the references are known and some of them are rated themselves, these originals tell: their score
    lies below or above the mean of their distorted versions.

    Raises:
        InputError: a column called dmos without originals, or originals that do not agree.
    """
    if given is not None or "dmos" not in column.lower():
        return given is not False, []
    sides = _sides_of_originals(rows) if with_references else []
    if sides and abs(sum(sides)) == len(sides):
        is_better = sides[0] > 0
        word = "higher" if is_better else "lower"
        note = f"{column!r} is {word} for a better image: all {len(sides)} rated originals have {word} scores"
        return is_better, [note]
    why = "no image is its own reference, which would tell"
    if sides:
        above = sides.count(1)
        why = f"of {len(sides)} originals {above} are above the mean of their distorted images, {sides.count(-1)} below"
    elif not with_references:
        why = "the originals among the images tell it, where target.reference_column names their references"
    raise InputError(
        f"{table}: {column!r} may hold differences, where a large one is a bad image; set target.higher_is_better to "
        f"false if so, else to true ({why})"
    )


def _sides_of_originals(rows: Sequence[LabelRow]) -> list[int]:
    """For each rated original with distorted images: 1 where its score is above their mean, -1 below, 0 neither."""
    originals: dict[str, float] = {}
    others: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        score, problem = parse_score(row.score, None)
        if row.problem or problem:
            continue
        name = os.path.basename(row.image_path)
        if os.path.basename(row.reference_id) in (name, os.path.splitext(name)[0]):
            originals[row.reference_id] = score
        else:
            others[row.reference_id].append(score)
    pairs = [(score, float(np.mean(others[name]))) for name, score in originals.items() if name in others]
    return [int(np.sign(score - mean)) for score, mean in pairs]


def weighted_by_deviation(
    rows: Sequence[LabelRow], deviations: Sequence[object], votes: Sequence[object]
) -> list[LabelRow]:
    """Rows with the weights of `reliabilities`; the variance of a label is its deviation² / votes.

    A row without a deviation of 0 or more, or a number of votes of 1 or more, cannot be used. No row has a weight where
    all labels are as certain.
    """
    checked, scores, variances = [], [], []
    for row, deviation, count in zip(rows, deviations, votes, strict=True):
        spread, people = parse_score(deviation, None)[0], parse_score(count, None)[0]
        score, is_no_score = parse_score(row.score, None)
        if not spread >= 0:
            row = replace(row, problem=row.problem or f"the standard deviation {deviation!r} is no number of 0 or more")
        elif not people >= 1:
            row = replace(row, problem=row.problem or f"the number of votes {count!r} is no number of 1 or more")
        elif not row.problem and not is_no_score:
            scores.append(score)
            variances.append(spread**2 / people)
        checked.append(row)
    weights = reliabilities(np.array(scores), np.array(variances))
    if weights is None:
        return checked
    left = iter(weights.tolist())
    return [
        row if row.problem or parse_score(row.score, None)[1] else replace(row, weight=next(left)) for row in checked
    ]

"""From votes to the table of labels that `target.dataset: table` reads."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from grmp_core.datasets.certainty import reliabilities
from grmp_core.errors import InputError
from grmp_core.ratings.differences import differences_of
from grmp_core.ratings.grades import Grades, grades_of, kept_by_screening, mean_opinion
from grmp_core.ratings.pairs import fit_pairs, pairs_of, scale_to_grades
from grmp_core.ratings.rater_model import fit_rater_model
from grmp_core.ratings.vote_log import Vote

Method = Literal["mean", "screened", "model"]


@dataclass(frozen=True, kw_only=True)
class ImageLabel:
    """The label of one image."""

    image: str
    mos: float
    """Or the difference to a reference, which is higher for a worse image."""
    stderr: float
    """Standard error; NaN where it is not known."""
    votes: int
    variance: float = float("nan")
    """Squared standard error as far as it can be told from all images together: that of two votes by themselves may be
    0 by chance. NaN where no image tells."""


@dataclass(frozen=True, kw_only=True)
class RaterSummary:
    """One rater, to be looked at by a person."""

    rater: str
    votes: int
    """Without repeats."""
    repeats: int
    same: float
    """Share of the repeats with the same answer as the first time; NaN without repeats."""
    distance: float
    """Mean difference of repeated grades; NaN without them."""
    bias: float
    """Grades above (+) or below those of the others, from the rater model; NaN where it cannot be told."""
    remark: str
    """`always 3`, or `fails the screening`; else empty."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of a vote log."""

    rows: tuple[ImageLabel, ...]
    raters: tuple[RaterSummary, ...]
    notes: tuple[str, ...]
    score: Literal["mos", "dmos"] = "mos"
    """`dmos`: labels are differences, higher is worse."""


def labels_of(votes: Sequence[Vote], method: Method = "mean", reference_of: Mapping[str, str] | None = None) -> Labels:
    """Labels from all votes of a log.

    Grades become labels by `method`: the mean; the mean without raters who fail BT.500's screening; or the rater
    model's quality. Pairs become strengths; where there are grades, too, images with pairs alone are put on their scale
    and images with grades keep these. With `reference_of` (image -> its reference) labels are differences (DMOS).

    Raises:
        InputError: no votes, or what `fit_pairs`, `scale_to_grades`, `fit_rater_model` and `differences_of` refuse;
            pairs, or the method `model`, with references.
    """
    if not votes:
        raise InputError("there are no votes; rate some images first")
    if reference_of is not None:
        return _labels_of_differences(votes, method, reference_of)
    rows, notes = _labels_of_grades(votes, method)
    pairs = pairs_of(votes)
    if pairs.images:
        strengths = fit_pairs(pairs)
        labels_I, stderr_I = strengths.strength_I, strengths.stderr_I
        if rows:
            graded = {row.image: row.mos for row in rows}
            labels_I, stderr_I = scale_to_grades(
                strengths, np.array([graded.get(image, np.nan) for image in pairs.images])
            )
            notes.append(f"{len(set(pairs.images) - set(graded))} images have pairs alone, put on the scale of grades")
        else:
            notes.append("no grades: labels are Bradley-Terry strengths in logits, higher is better, mean 0")
        known = {row.image for row in rows}
        columns = (pairs.images, labels_I.tolist(), stderr_I.tolist(), strengths.votes_I.tolist())
        rows += [
            ImageLabel(image=image, mos=mos, stderr=stderr, votes=count, variance=stderr**2)
            for image, mos, stderr, count in zip(*columns, strict=True)
            if image not in known
        ]
    return Labels(rows=tuple(rows), raters=summarize_raters(votes), notes=tuple(notes))


def _labels_of_grades(votes: Sequence[Vote], method: Method) -> tuple[list[ImageLabel], list[str]]:
    grades = grades_of(votes)
    if not grades.images:
        return [], []
    values_IR, notes = _screened(grades, method)
    if method == "model":
        model = fit_rater_model(grades)
        votes_I = np.sum(~np.isnan(values_IR), axis=1)
        return _rows(grades.images, model.quality_I, model.stderr_I, votes_I, model.stderr_I**2), notes
    rows = _mean_rows(grades.images, values_IR)
    if len(rows) < len(grades.images):
        notes.append(f"{len(grades.images) - len(rows)} images have no vote of a rater who passes, and no label")
    return rows, notes


def _labels_of_differences(votes: Sequence[Vote], method: Method, reference_of: Mapping[str, str]) -> Labels:
    if method == "model":
        raise InputError("differences have no bias of raters that a model could take away; take rate.labels=mean")
    if pairs_of(votes).images:
        raise InputError("there are pairs among the votes, and differences to references are of grades; leave one out")
    grades = grades_of(votes)
    values_IR, notes = _screened(grades, method)
    images, differences_IR = differences_of(replace(grades, values_IR=values_IR), reference_of)
    rows = _mean_rows(images, differences_IR)
    originals = {reference_of[image] for image in images}
    notes.append(
        f"labels are differences to {len(originals)} references (DMOS), 0 where an image is as good, higher is worse"
    )
    if without := len(images) - len(rows):
        notes.append(f"{without} images have no rater who has graded their reference, too, and no label")
    return Labels(rows=tuple(rows), raters=summarize_raters(votes), notes=tuple(notes), score="dmos")


def _screened(grades: Grades, method: Method) -> tuple[np.ndarray, list[str]]:
    """The grades, with `screened` of those raters alone who pass."""
    if method != "screened":
        return grades.values_IR, []
    kept_R = kept_by_screening(grades.values_IR)
    failed = [rater for rater, kept in zip(grades.raters, kept_R, strict=True) if not kept]
    notes = [f"left out by the screening of BT.500: {', '.join(failed)}"] if failed else []
    return grades.values_IR[:, kept_R], notes


def _mean_rows(images: Sequence[str], values_IR: np.ndarray) -> list[ImageLabel]:
    opinion = mean_opinion(values_IR)
    variance_I = pooled_variance(values_IR) / np.maximum(opinion.votes_I, 1)
    return _rows(images, opinion.mos_I, opinion.stderr_I, opinion.votes_I, variance_I)


def _rows(
    images: Sequence[str], mos_I: np.ndarray, stderr_I: np.ndarray, votes_I: np.ndarray, variance_I: np.ndarray
) -> list[ImageLabel]:
    """Rows of the images that have votes."""
    columns = (images, mos_I.tolist(), stderr_I.tolist(), votes_I.tolist(), variance_I.tolist())
    return [
        ImageLabel(image=image, mos=mos, stderr=stderr, votes=count, variance=variance)
        for image, mos, stderr, count, variance in zip(*columns, strict=True)
        if count
    ]


def summarize_raters(votes: Sequence[Vote]) -> tuple[RaterSummary, ...]:
    """Every rater's votes, agreement with themselves, and bias."""
    grades = grades_of(votes)
    kept_R = kept_by_screening(grades.values_IR)
    failed = {rater for rater, kept in zip(grades.raters, kept_R, strict=True) if not kept}
    bias: dict[str, float] = {}
    if len(grades.raters) > 1:
        try:
            bias = dict(zip(grades.raters, fit_rater_model(grades).bias_R.tolist(), strict=True))
        except InputError:
            bias = {}  # raters without a common image have none, which a summary shows as an empty cell
    by_rater: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_rater[vote.rater].append(vote)
    return tuple(
        _summary(rater, own, bias.get(rater, float("nan")), failed=rater in failed) for rater, own in by_rater.items()
    )


def _summary(rater: str, votes: list[Vote], bias: float, *, failed: bool) -> RaterSummary:
    first: dict[tuple[str, tuple[str, ...]], Vote] = {}
    same, distances = [], []
    for vote in votes:
        key = (vote.kind, tuple(sorted(vote.images)))
        before = first.setdefault(key, vote)
        if vote.repeat and before is not vote:
            same.append(_answer(vote) == _answer(before))
            if vote.kind == "grade":
                distances.append(abs(float(vote.value) - float(before.value)))
    values = {vote.value for vote in votes if vote.kind == "grade"}
    count = sum(vote.kind == "grade" for vote in votes)
    remark = f"always {values.pop()}" if count >= 5 and len(values) == 1 else ""
    if failed:
        remark = "fails the screening"
    return RaterSummary(
        rater=rater,
        votes=sum(not vote.repeat for vote in votes),
        repeats=len(same),
        same=float(np.mean(same)) if same else float("nan"),
        distance=float(np.mean(distances)) if distances else float("nan"),
        bias=bias,
        remark=remark,
    )


def _answer(vote: Vote) -> float | str:
    """The answer, which for a pair is the better image, whatever side it was on."""
    if vote.kind == "grade" or vote.value == "same":
        return vote.value
    return vote.images[0] if vote.value == "left" else vote.images[1]


def pooled_variance(values_IR: np.ndarray) -> float:
    """Variance of the votes for one image, over all images with several; NaN without such an image."""
    votes_I = np.sum(~np.isnan(values_IR), axis=1)
    several = values_IR[votes_I > 1]
    freedom = (votes_I[votes_I > 1] - 1).sum()
    if freedom == 0:
        return float("nan")
    return float(np.nansum((several - np.nanmean(several, axis=1, keepdims=True)) ** 2) / freedom)


def weights_of(rows: Sequence[ImageLabel]) -> np.ndarray | None:
    """How much each label counts in training: `reliabilities`."""
    return reliabilities(np.array([row.mos for row in rows]), np.array([row.variance for row in rows]))


def to_csv(rows: Sequence[ImageLabel], score: str = "mos") -> str:
    """Columns image, `score`, stderr, votes, and weight where labels differ in it, sorted by image; an unknown standard
    error is empty."""
    rows = sorted(rows, key=lambda row: row.image)
    weight_N = weights_of(rows)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", score, "stderr", "votes", *([] if weight_N is None else ["weight"])])
    for i, row in enumerate(rows):
        stderr = "" if np.isnan(row.stderr) else f"{row.stderr:.6g}"
        weight = [] if weight_N is None else [f"{weight_N[i]:.4g}"]
        writer.writerow([row.image, f"{row.mos:.6g}", stderr, row.votes, *weight])
    return stream.getvalue()

"""Grades of several raters: mean opinion scores, and the screening of raters of ITU-R BT.500."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from grmp_core.ratings.vote_log import Vote

_NORMAL_KURTOSIS = (2.0, 4.0)
_FAR_IF_NORMAL, _FAR_OTHERWISE = 2.0, 20.0**0.5
_MAX_FAR_SHARE, _MAX_ONE_SIDED = 0.05, 0.3


@dataclass(frozen=True, kw_only=True)
class Grades:
    """First grades by image and rater; images and raters in the order of their first vote."""

    images: tuple[str, ...]
    raters: tuple[str, ...]
    values_IR: np.ndarray
    """float64 (images, raters); NaN where a rater has not graded an image."""


@dataclass(frozen=True, kw_only=True)
class MeanOpinion:
    """Mean opinion scores of images, float64 (I,) each."""

    mos_I: np.ndarray
    stderr_I: np.ndarray
    """Standard error of the mean; NaN for an image with one vote, of which nothing is known about its spread."""
    votes_I: np.ndarray
    """Number of raters, int64."""
    low_I: np.ndarray
    high_I: np.ndarray
    """Ends of the interval by Student's t distribution; NaN with one vote."""


def grades_of(votes: Iterable[Vote]) -> Grades:
    """The matrix of grades; repeats and pairs are left out."""
    first: dict[tuple[str, str], float] = {}
    for vote in votes:
        if vote.kind == "grade" and not vote.repeat:
            first.setdefault((vote.images[0], vote.rater), float(vote.value))
    images = {image: i for i, image in enumerate(dict.fromkeys(image for image, _ in first))}
    raters = {rater: r for r, rater in enumerate(dict.fromkeys(rater for _, rater in first))}
    values_IR = np.full((len(images), len(raters)), np.nan)
    for (image, rater), value in first.items():
        values_IR[images[image], raters[rater]] = value
    return Grades(images=tuple(images), raters=tuple(raters), values_IR=values_IR)


def mean_opinion(values_IR: np.ndarray, coverage: float = 0.95) -> MeanOpinion:
    """Mean, standard error and interval of each image over its raters. (I, R), NaN for no vote; NaN where none is."""
    votes_I = np.sum(~np.isnan(values_IR), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows without a vote, or with one
        mos_I = np.nanmean(values_IR, axis=1)
        stderr_I = np.nanstd(values_IR, axis=1, ddof=1) / np.sqrt(votes_I)
    width_I = stderr_I * stats.t.ppf((1 + coverage) / 2, np.maximum(votes_I - 1, 1))
    return MeanOpinion(mos_I=mos_I, stderr_I=stderr_I, votes_I=votes_I, low_I=mos_I - width_I, high_I=mos_I + width_I)


def kept_by_screening(values_IR: np.ndarray) -> np.ndarray:
    """Which raters pass the screening of ITU-R BT.500 (Annex 1, for single-stimulus methods); bool (R,).

    A vote is far when it differs from the image's mean by 2 standard deviations, or by √20 where the kurtosis of the
    votes is not within 2 to 4. A rater fails with more than 5 % of far votes that lie above and below the means about
    as often (difference below 30 % of their number): one who is only biased passes. Raters need not have graded all
    images; images on which all agree count as votes that are not far.
    """
    mean_I = mean_opinion(values_IR).mos_I
    offsets_IR = values_IR - mean_I[:, None]
    votes_I = np.sum(~np.isnan(values_IR), axis=1)
    second_I = np.nansum(offsets_IR**2, axis=1) / np.maximum(votes_I, 1)
    fourth_I = np.nansum(offsets_IR**4, axis=1) / np.maximum(votes_I, 1)
    spread_I = np.sqrt(second_I * votes_I / np.maximum(votes_I - 1, 1))
    kurtosis_I = np.divide(fourth_I, second_I**2, out=np.zeros_like(fourth_I), where=second_I > 0)
    is_normal_I = (kurtosis_I >= _NORMAL_KURTOSIS[0]) & (kurtosis_I <= _NORMAL_KURTOSIS[1])
    limit_I = np.where(spread_I > 0, spread_I * np.where(is_normal_I, _FAR_IF_NORMAL, _FAR_OTHERWISE), np.inf)
    above_R = np.sum(offsets_IR >= limit_I[:, None], axis=0)
    below_R = np.sum(offsets_IR <= -limit_I[:, None], axis=0)
    far_R = above_R + below_R
    share_R = far_R / np.maximum(np.sum(~np.isnan(values_IR), axis=0), 1)
    one_sided_R = np.abs(above_R - below_R) / np.maximum(far_R, 1)
    return ~((share_R > _MAX_FAR_SHARE) & (one_sided_R < _MAX_ONE_SIDED))

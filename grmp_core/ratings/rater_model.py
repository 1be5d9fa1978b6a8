"""Bias and inconsistency of raters, estimated together with the quality of the images (ITU-T P.913, clause 12.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grmp_core.errors import InputError
from grmp_core.ratings.connectedness import check_connected
from grmp_core.ratings.grades import Grades

_PRIOR_VOTES = 1.0
_TOLERANCE, _MAX_STEPS = 1e-9, 10_000


@dataclass(frozen=True, kw_only=True)
class RaterModel:
    """A grade is quality_I + bias_R + noise of standard deviation inconsistency_R."""

    quality_I: np.ndarray
    """Quality of the images on the scale of the grades, float64 (I,)."""
    stderr_I: np.ndarray
    """Its standard error, from the noise of the image's raters, float64 (I,)."""
    bias_R: np.ndarray
    """Above 0: grades better than the others; mean 0 over raters, float64 (R,)."""
    inconsistency_R: np.ndarray
    """Standard deviation of what remains of a rater's grades, float64 (R,)."""


def fit_rater_model(grades: Grades) -> RaterModel:
    """Alternating estimation until nothing moves: quality as the mean of unbiased grades weighted by the inverse noise
    variance of their raters, then bias, then noise.

    It differs from P.913 in two points, both for few votes. Noise counts the uncertainty of quality, as restricted
    maximum likelihood does by EM: without it the variance of the most consistent of few raters falls to 0. And a
    rater's variance is drawn towards that of all raters with the weight of one vote. Of two raters the likelihood
    does not tell whose noise it is; they weigh the same.

    Raises:
        InputError: no grades, or groups of raters without a common image, whose biases cannot be told from quality.
    """
    values_IR = grades.values_IR
    given_IR = ~np.isnan(values_IR)
    if not given_IR.any():
        raise InputError("there are no grades; rate some images first")
    image_E, rater_E = np.nonzero(given_IR)
    names = (*grades.images, *(f"rater {rater}" for rater in grades.raters))
    fix = "let the raters of both rate some common images, or take rate.labels=mean"
    check_connected(names, image_E, rater_E + len(grades.images), fix)
    quality_I = np.nanmean(values_IR, axis=1)
    uncertainty_I, variance_R = np.zeros(len(quality_I)), np.zeros(values_IR.shape[1])
    for _ in range(_MAX_STEPS):
        before_I, variance_before_R = quality_I, variance_R
        bias_R = np.nanmean(values_IR - quality_I[:, None], axis=0)
        bias_R = bias_R - bias_R.mean()
        squares_IR = (values_IR - quality_I[:, None] - bias_R) ** 2 + uncertainty_I[:, None]
        variance_R = _variances(squares_IR)
        weight_IR = given_IR / variance_R
        uncertainty_I = 1 / weight_IR.sum(axis=1)
        quality_I = np.nansum(weight_IR * (values_IR - bias_R), axis=1) * uncertainty_I
        change = max(np.max(np.abs(quality_I - before_I)), np.max(np.abs(variance_R - variance_before_R)))
        if change < _TOLERANCE:
            break
    return RaterModel(
        quality_I=quality_I,
        stderr_I=np.sqrt(uncertainty_I),
        bias_R=bias_R,
        inconsistency_R=np.sqrt(variance_R),
    )


def _variances(squares_IR: np.ndarray) -> np.ndarray:
    squares_R = np.nansum(squares_IR, axis=0)
    votes_R = np.sum(~np.isnan(squares_IR), axis=0)
    pooled = max(squares_R.sum() / votes_R.sum(), 1e-12)
    return (squares_R + _PRIOR_VOTES * pooled) / (votes_R + _PRIOR_VOTES)

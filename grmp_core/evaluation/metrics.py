"""Agreement with human scores: rank and linear correlations, intervals and a paired test.

Rules that hold in all of them: inputs are 1-D, of equal length and finite, else `InputError`; a correlation that is not
defined (fewer than two values, or one side constant) is nan, never an exception and never 0. Values that differ by no
more than rounding are ties, and a side is constant where all its values are one tie: see
`value_pairs.TIE_TOLERANCE`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.evaluation.logistic_map import fit_logistic
from grmp_core.evaluation.value_pairs import checked_pair, merge_ties, no_correlation

MIN_INTERVAL_IMAGES = 10
"""Fewer images have no confidence interval. Simulated with normal pairs of correlation .5 to .95, the 95 % percentile
bootstrap interval of SRCC covers the true value in 95 to 98 % of cases with 10 images, 70 to 95 % with 5, 27 to 60 %
with 3; with 2, SRCC is 1 or -1 whatever the pictures are."""

MIN_SCENE_IMAGES = 5
"""Fewer images of a scene do not count in `within_srcc`."""


class Interval(NamedTuple):
    """A confidence interval in the metric's own unit; (nan, nan) where there is none."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """Wilcoxon signed-rank statistic and its two-sided p-value."""

    statistic: float
    p_value: float


@dataclass(frozen=True)
class Scores:
    """How well predictions agree with human scores on one set of images."""

    srcc: float
    """Spearman rank correlation, in [-1, 1]."""
    plcc: float
    """Pearson correlation of the raw values, in [-1, 1]."""
    plcc_logistic: float
    """Pearson correlation after the 4-parameter logistic map, in [-1, 1]."""
    krcc: float
    """Kendall's tau-b, in [-1, 1]."""
    rmse: float
    """Root mean square error after the logistic map, in units of mos."""
    logistic_converged: bool
    """False where a straight line stood in for the logistic map."""
    n: int
    """Number of images."""


def evaluate(predicted: ArrayLike, mos: ArrayLike) -> Scores:
    """All metrics of predictions against human scores, both of shape (N,), higher better on both sides.

    A constant side gives nan correlations; its rmse is that of the mean. N = 0 gives nan everywhere.

    Raises:
        InputError: lengths differ, or a value is not finite.
    """
    x, y = checked_pair(predicted, mos)
    if len(x) == 0:
        return Scores(math.nan, math.nan, math.nan, math.nan, math.nan, False, 0)
    fit = fit_logistic(x, y)
    mapped = fit(x)
    return Scores(
        srcc=srcc(x, y),
        plcc=plcc(x, y),
        plcc_logistic=plcc(mapped, y),
        krcc=krcc(x, y),
        rmse=rmse(mapped, y),
        logistic_converged=fit.converged,
        n=len(x),
    )


def srcc(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman rank correlation of two (N,) arrays, ties given their mean rank; nan where not defined."""
    x, y = checked_pair(a, b)
    return math.nan if no_correlation(x, y) else float(stats.spearmanr(merge_ties(x), merge_ties(y)).statistic)


def within_srcc(a: ArrayLike, b: ArrayLike, scenes: ArrayLike) -> float:
    """SRCC of two (N,) arrays within each scene of (N,), averaged over images; nan where no scene has one.

    Left out: scenes of fewer than `MIN_SCENE_IMAGES` images, and those in which SRCC is not defined. What tells one
    scene from another earns nothing here.
    """
    x, y = checked_pair(a, b)
    names = np.asarray(scenes)
    if len(names) != len(x):
        raise InputError(f"scenes: {len(names)} for {len(x)} values; give one each")
    parts = [np.flatnonzero(names == name) for name in np.unique(names)]
    found = [(srcc(x[rows], y[rows]), len(rows)) for rows in parts if len(rows) >= MIN_SCENE_IMAGES]
    defined = [(value, count) for value, count in found if math.isfinite(value)]
    if not defined:
        return math.nan
    values, counts = zip(*defined, strict=True)
    return float(np.average(values, weights=counts))


def plcc(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson correlation of two (N,) arrays; nan where not defined."""
    x, y = checked_pair(a, b)
    return math.nan if no_correlation(x, y) else float(stats.pearsonr(x, y).statistic)


def krcc(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b (corrected for ties) of two (N,) arrays; nan where not defined."""
    x, y = checked_pair(a, b)
    return math.nan if no_correlation(x, y) else float(stats.kendalltau(merge_ties(x), merge_ties(y)).statistic)


def rmse(a: ArrayLike, b: ArrayLike) -> float:
    """Root mean square difference of two (N,) arrays, in their unit; nan where N is 0."""
    x, y = checked_pair(a, b)
    return float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else math.nan


def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float],
    predicted: ArrayLike,
    mos: ArrayLike,
    confidence: float = 0.95,
    seed: int = 0,
    n: int = 1000,
) -> Interval:
    """Percentile bootstrap interval of a metric over images: `n` resamples with replacement, the same for a seed.

    Resamples for which the metric is nan are left out; where they are half or more, or there are fewer images than
    `MIN_INTERVAL_IMAGES`, the interval is (nan, nan). It is the paired percentile interval of `scipy.stats.bootstrap`
    with `default_rng(seed)`, which by itself has none as soon as the metric of one resample is nan: with two scores
    among ten images that is one resample in three.

    Raises:
        InputError: lengths differ, a value is not finite, `confidence` outside (0, 1), or `n` below 1.
    """
    if not 0 < confidence < 1 or n < 1:
        raise InputError(f"bootstrap: confidence {confidence} must lie in (0, 1) and n {n} be at least 1")
    x, y = checked_pair(predicted, mos)
    if len(x) < MIN_INTERVAL_IMAGES:
        return Interval(math.nan, math.nan)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(x), size=(n, len(x)))
    values = np.array([metric(x[row], y[row]) for row in rows])
    values = values[~np.isnan(values)]
    if 2 * len(values) <= n:
        return Interval(math.nan, math.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def wilcoxon_paired(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of paired values, such as one metric of two methods over the same splits.

    Zero differences are dropped; where all are zero (or N is 0) the statistic is 0 and p is 1.
    """
    x, y = checked_pair(a, b)
    if not np.any(x != y):
        return PairedTest(0.0, 1.0)
    result = stats.wilcoxon(x, y)
    return PairedTest(float(result.statistic), float(result.pvalue))

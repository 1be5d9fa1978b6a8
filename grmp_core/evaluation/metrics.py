"""Agreement with human scores: rank and linear correlations, the logistic map, intervals and a paired test.

Rules that hold in all of them: inputs are 1-D, of equal length and finite, else `InputError`; a correlation that is not
defined (fewer than two values, or one side constant) is nan, never an exception and never 0. Values that differ by no
more than rounding are ties, and a side is constant where all its values are one tie: see `TIE_TOLERANCE`.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from grmp_core.errors import InputError

TIE_TOLERANCE = 8 * 2.0**-23
"""Relative difference up to which two values are a tie: 8 units in the last place of float32.

A float32 model gives one picture scores up to 6 units apart when it is run in batches of different sizes (measured with
ViT-B/16 at a logit scale of 100; grmp-nano: 1). In bfloat16 that is up to .02, too much to tell from a real difference;
so what is scored together is run in batches of one size, in which a picture's score does not depend on the others.
"""
MIN_INTERVAL_IMAGES = 10
"""Fewer images have no confidence interval. Simulated with normal pairs of correlation .5 to .95, the 95 % percentile
bootstrap interval of SRCC covers the true value in 95 to 98 % of cases with 10 images, 70 to 95 % with 5, 27 to 60 %
with 3; with 2, SRCC is 1 or -1 whatever the pictures are."""

MIN_SCENE_IMAGES = 5
"""Fewer images of a scene do not count in `within_srcc`."""

# A logistic can come as close to a straight line as it likes, so a fit clearly worse than the line is a failed search.
_WORSE_THAN_LINE = 1.001
_MAX_EVALUATIONS = 4000


class FitWarning(RuntimeWarning):
    """The logistic map did not converge and a straight line stands in for it."""


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


@dataclass(frozen=True)
class LogisticFit:
    """A map from predictions to mos; calling it maps values of any shape."""

    params: tuple[float, ...]
    """b1..b4 or b1..b5 of `fit_logistic`; (slope, intercept) where `converged` is False."""
    converged: bool
    """False: the map is the least-squares line (a constant where even that is not defined)."""

    def __call__(self, predicted: ArrayLike) -> np.ndarray:
        x = np.asarray(predicted, dtype=np.float64)
        if not self.converged:
            slope, intercept = self.params
            return slope * x + intercept
        return _logistic(np.asarray(self.params), x)


def evaluate(predicted: ArrayLike, mos: ArrayLike) -> Scores:
    """All metrics of predictions against human scores, both of shape (N,), higher better on both sides.

    A constant side gives nan correlations; its rmse is that of the mean. N = 0 gives nan everywhere.

    Raises:
        InputError: lengths differ, or a value is not finite.
    """
    x, y = _pair(predicted, mos)
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
    x, y = _pair(a, b)
    return math.nan if _undefined(x, y) else float(stats.spearmanr(merge_ties(x), merge_ties(y)).statistic)


def within_srcc(a: ArrayLike, b: ArrayLike, scenes: ArrayLike) -> float:
    """SRCC of two (N,) arrays within each scene of (N,), averaged over images; nan where no scene has one.

    Left out: scenes of fewer than `MIN_SCENE_IMAGES` images, and those in which SRCC is not defined. What tells one
    scene from another earns nothing here.
    """
    x, y = _pair(a, b)
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
    x, y = _pair(a, b)
    return math.nan if _undefined(x, y) else float(stats.pearsonr(x, y).statistic)


def krcc(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b (corrected for ties) of two (N,) arrays; nan where not defined."""
    x, y = _pair(a, b)
    return math.nan if _undefined(x, y) else float(stats.kendalltau(merge_ties(x), merge_ties(y)).statistic)


def merge_ties(values: ArrayLike) -> np.ndarray:
    """(N,) values, each set to the smallest of those that it ties with; see `TIE_TOLERANCE`.

    From the smallest upwards, a value belongs to the tie that the one before began if it is within the tolerance of
    that tie's first. So a tie is never wider than the tolerance, however densely the values lie.
    """
    x = np.asarray(values, dtype=np.float64)
    distinct, inverse = np.unique(x, return_inverse=True)
    merged = distinct.copy()
    for i in np.flatnonzero(_tied(distinct[:-1], distinct[1:])) + 1:
        if _tied(merged[i - 1], distinct[i]):
            merged[i] = merged[i - 1]
    return merged[inverse]


def rmse(a: ArrayLike, b: ArrayLike) -> float:
    """Root mean square difference of two (N,) arrays, in their unit; nan where N is 0."""
    x, y = _pair(a, b)
    return float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else math.nan


def fit_logistic(predicted: ArrayLike, mos: ArrayLike, parameters: int = 4) -> LogisticFit:
    """Least-squares map from predictions to mos, as VQEG prescribes before Pearson correlation.

    4 parameters: (b1 - b2) / (1 + exp(-(x - b3) / b4)) + b2, monotone. 5 parameters:
    b1 (1/2 - 1/(1 + exp(b2 (x - b3)))) + b4 x + b5, which need not be monotone. Both are the forms of IQA-PyTorch.
    Unlike there, the search runs on standardized values, so the result does not depend on the units of either side, and
    it starts with the sign of the correlation.

    A search that does not converge, has fewer points than parameters, or ends worse than the least-squares line gives
    that line, `converged` False and a `FitWarning`.

    Raises:
        InputError: lengths differ, a value is not finite, no value at all, or `parameters` is neither 4 nor 5.
    """
    if parameters not in (4, 5):
        raise InputError(f"parameters: {parameters} is not known; the logistic map has 4 or 5")
    x, y = _pair(predicted, mos)
    if len(x) == 0:
        raise InputError("logistic fit: no values; give at least one prediction and its mos")
    slope = 0.0 if _undefined(x, y) else float(np.dot(x - x.mean(), y - y.mean()) / np.sum((x - x.mean()) ** 2))
    line = LogisticFit((slope, float(y.mean() - slope * x.mean())), False)
    if _undefined(x, y) or len(x) < parameters:
        return _fall_back(line, f"{len(x)} values, or one side constant, do not determine {parameters} parameters")
    zx, zy = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    start = _start(zx, zy, parameters)
    fitted = optimize.least_squares(lambda b: _logistic(b, zx) - zy, start, method="lm", max_nfev=_MAX_EVALUATIONS)
    squares_of_line = float(np.sum((line(x) - y) ** 2)) / y.var()
    if not fitted.success or not np.all(np.isfinite(fitted.x)):
        return _fall_back(line, "the search did not end")
    if 2 * fitted.cost > _WORSE_THAN_LINE * squares_of_line + 1e-12:
        return _fall_back(line, "the search ended worse than a straight line")
    return LogisticFit(_in_units(fitted.x, x, y), True)


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
    x, y = _pair(predicted, mos)
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
    x, y = _pair(a, b)
    if not np.any(x != y):
        return PairedTest(0.0, 1.0)
    result = stats.wilcoxon(x, y)
    return PairedTest(float(result.statistic), float(result.pvalue))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 1 or len(x) != len(y):
        raise InputError(f"metrics: shapes {x.shape} and {y.shape} must be one-dimensional and equal")
    for name, values in (("first", x), ("second", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(f"metrics: {len(bad)} values of the {name} input are not finite, first at index {bad[0]}")
    return x, y


def _undefined(x: np.ndarray, y: np.ndarray) -> bool:
    return len(x) < 2 or any(np.ptp(merge_ties(side)) == 0 for side in (x, y))


def _tied(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return high - low <= TIE_TOLERANCE * np.maximum(np.abs(low), np.abs(high))


def _logistic(b: np.ndarray, x: np.ndarray) -> np.ndarray:
    # expit saturates where exp would overflow.
    if len(b) == 4:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return (b[0] - b[1]) * special.expit((x - b[2]) / b[3]) + b[1]
    return b[0] * (0.5 - special.expit(-b[1] * (x - b[2]))) + b[3] * x + b[4]


def _start(zx: np.ndarray, zy: np.ndarray, parameters: int) -> np.ndarray:
    rising = float(np.dot(zx, zy)) >= 0
    top, bottom = (zy.max(), zy.min()) if rising else (zy.min(), zy.max())
    if parameters == 4:
        return np.array([top, bottom, 0.0, 0.25])
    return np.array([top - bottom, 1.0, 0.0, 0.1 if rising else -0.1, 0.0])


def _in_units(b: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    mx, sx, my, sy = x.mean(), x.std(), y.mean(), y.std()
    scaled: tuple[float, ...]
    if len(b) == 4:
        scaled = (b[0] * sy + my, b[1] * sy + my, b[2] * sx + mx, b[3] * sx)
    else:
        slope = b[3] * sy / sx
        scaled = (b[0] * sy, b[1] / sx, b[2] * sx + mx, slope, b[4] * sy + my - slope * mx)
    return tuple(float(value) for value in scaled)


def _fall_back(line: LogisticFit, why: str) -> LogisticFit:
    warnings.warn(f"logistic map: {why}; using a straight line", FitWarning, stacklevel=3)
    return line

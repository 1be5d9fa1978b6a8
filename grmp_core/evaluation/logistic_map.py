"""The logistic map from predictions to human scores that VQEG prescribes before Pearson correlation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from grmp_core.errors import InputError
from grmp_core.evaluation.value_pairs import checked_pair, no_correlation

# A logistic can come as close to a straight line as it likes, so a fit clearly worse than the line is a failed search.
_WORSE_THAN_LINE = 1.001
_MAX_EVALUATIONS = 4000


class FitWarning(RuntimeWarning):
    """The logistic map did not converge and a straight line stands in for it."""


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
    x, y = checked_pair(predicted, mos)
    if len(x) == 0:
        raise InputError("logistic fit: no values; give at least one prediction and its mos")
    slope = 0.0 if no_correlation(x, y) else float(np.dot(x - x.mean(), y - y.mean()) / np.sum((x - x.mean()) ** 2))
    line = LogisticFit((slope, float(y.mean() - slope * x.mean())), False)
    if no_correlation(x, y) or len(x) < parameters:
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

"""How many labels are enough: a saturating fit over label counts, with its doubts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

_RATES = np.geomspace(0.05, 4.0, 160)  # exponents that are tried; beyond them a curve is a step or a straight line
_RESAMPLES = 500
_ENOUGH_BUDGETS = 4  # three parameters go through any three points
_ENOUGH_SPLITS = 5


@dataclass(frozen=True)
class SaturatingFit:
    """SRCC(n) = ceiling - drop · n^-rate, with ceiling <= 1 and drop >= 0: it rises, and it levels off."""

    ceiling: float
    drop: float
    rate: float
    rms: float
    """Root mean square distance of the fitted points, in SRCC."""
    rate_at_edge: bool
    """True where the best exponent is the smallest or largest that was tried: the data do not determine it."""

    def __call__(self, budget: np.ndarray | float) -> np.ndarray:
        return self.ceiling - self.drop * np.asarray(budget, dtype=float) ** -self.rate

    def budget_for(self, target: float) -> float:
        """Smallest number of labels for which the curve is at `target`; inf where it never is."""
        if self.ceiling <= target:
            return math.inf
        return max(1.0, (self.drop / (self.ceiling - target)) ** (1 / self.rate))


def fit_saturating(budgets: Sequence[float] | np.ndarray, srcc: Sequence[float] | np.ndarray) -> SaturatingFit:
    """Least-squares fit of `SaturatingFit` to at least two points.

    Each exponent of a fixed grid leaves a linear problem in two bounded unknowns, solved in closed form: there is no
    start value, and no search that could fail.
    """
    n, y = np.asarray(budgets, dtype=float), np.asarray(srcc, dtype=float)
    u_RN = n[None, :] ** -_RATES[:, None]
    du, dy = u_RN - u_RN.mean(axis=1, keepdims=True), y - y.mean()
    drop = np.maximum(-(du @ dy) / np.sum(du**2, axis=1), 0.0)
    ceiling = y.mean() + drop * u_RN.mean(axis=1)
    over = ceiling > 1
    ceiling[over] = 1.0
    drop[over] = np.maximum((u_RN[over] @ (1 - y)) / np.sum(u_RN[over] ** 2, axis=1), 0.0)
    squares = np.mean((ceiling[:, None] - drop[:, None] * u_RN - y) ** 2, axis=1)
    best = int(np.argmin(squares))
    edge = best in (0, len(_RATES) - 1)
    rms = math.sqrt(squares[best])
    return SaturatingFit(float(ceiling[best]), float(drop[best]), float(_RATES[best]), rms, edge)


@dataclass(frozen=True)
class LabelsNeeded:
    """How many labels one lambda needs for a median SRCC of `target`."""

    target: float
    measured: int | None
    """Smallest budget that was tried whose median SRCC, and every larger one's, is at the target; null if none is."""
    estimate: float
    """From the fitted curve; inf where it levels off below the target, nan without a fit."""
    low: float
    high: float
    """90 % percentile interval over resampled splits; nan with fewer than three splits."""
    fit: SaturatingFit | None
    doubts: tuple[str, ...]
    """Why the estimate must not be trusted; empty where nothing speaks against it."""


def labels_needed(trials: pd.DataFrame, target: float, seed: int = 0) -> LabelsNeeded:
    """Answer for the finished trials of one lambda."""
    table = trials.pivot_table(index="split_seed", columns="budget", values="srcc", aggfunc="median")
    budgets, values_SN = table.columns.to_numpy(float), table.to_numpy(float)
    medians = np.nanmedian(values_SN, axis=0) if len(budgets) else np.zeros(0)
    measured = _first_lasting(budgets, medians >= target)
    if len(budgets) < 3:
        why = f"only {len(budgets)} number{'s' * (len(budgets) != 1)} of labels tried: a curve needs at least three"
        return LabelsNeeded(target, measured, math.nan, math.nan, math.nan, None, (why,))
    fit = fit_saturating(budgets, medians)
    estimate = fit.budget_for(target)
    low, high = _interval(budgets, values_SN, target, seed)
    doubts = _doubts(fit, budgets, medians, len(table), estimate, (low, high))
    return LabelsNeeded(target, measured, estimate, low, high, fit, doubts)


def _first_lasting(budgets: np.ndarray, reached: np.ndarray) -> int | None:
    below = np.flatnonzero(~reached)
    first = int(below[-1]) + 1 if len(below) else 0
    return int(budgets[first]) if first < len(budgets) else None


def _interval(budgets: np.ndarray, values_SN: np.ndarray, target: float, seed: int) -> tuple[float, float]:
    if len(values_SN) < 3:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    estimates = []
    for rows in rng.integers(len(values_SN), size=(_RESAMPLES, len(values_SN))):
        drawn = values_SN[rows]
        measured = np.isfinite(drawn).any(axis=0)
        if measured.sum() >= 3:
            fit = fit_saturating(budgets[measured], np.nanmedian(drawn[:, measured], axis=0))
            estimates.append(fit.budget_for(target))  # inf where a curve levels off below the target
    low, high = np.quantile(estimates, [0.05, 0.95], method="nearest") if estimates else (math.nan, math.nan)
    return float(low), float(high)


def _doubts(
    fit: SaturatingFit,
    budgets: np.ndarray,
    medians: np.ndarray,
    splits: int,
    estimate: float,
    interval: tuple[float, float],
) -> tuple[str, ...]:
    low, high = interval
    rise = float(medians.max() - medians.min())
    checks = [
        (len(budgets) < _ENOUGH_BUDGETS, f"{len(budgets)} numbers of labels hardly determine a three-parameter curve"),
        (splits < _ENOUGH_SPLITS, f"only {splits} splits: the spread between splits is hardly known"),
        (fit.drop <= 0, "SRCC does not rise with more labels, so there is nothing to extrapolate"),
        (fit.rate_at_edge and fit.drop > 0, "the speed at which the curve levels off is not determined by the data"),
        (fit.rms > max(0.015, 0.25 * rise), f"the curve misses the measured medians by {fit.rms:.3f} on average"),
        (math.isinf(estimate), "the curve levels off below the target"),
        (
            math.isfinite(estimate) and estimate > budgets.max(),
            f"the answer lies beyond the {budgets.max():.0f} labels that were tried: it is an extrapolation",
        ),
        (
            math.isfinite(estimate) and estimate < budgets.min(),
            f"the answer lies below the {budgets.min():.0f} labels that were tried: it is an extrapolation",
        ),
        (
            math.isfinite(estimate) and not math.isnan(high) and (math.isinf(high) or high > 4 * low),
            "resampling the splits moves the answer more than fourfold",
        ),
    ]
    return tuple(text for doubtful, text in checks if doubtful)

"""What a sweep's results say: medians over splits, labels needed, regret of the validated choice, paired tests.

Plain tables in, plain tables out; nothing here draws or writes. `budget` is the number of labelled images of a trial.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.errors import InputError
from grmp_core.metrics import wilcoxon_paired
from grmp_core.storage import Location

COLUMNS = (
    "trial",
    "lambda",
    "data_ratio",
    "shots",
    "budget",
    "split_seed",
    "val_srcc",
    "srcc",
    "plcc",
    "seconds",
    "error",
)
_RATES = np.geomspace(0.05, 4.0, 160)  # exponents that are tried; beyond them a curve is a step or a straight line
_RESAMPLES = 500
_ENOUGH_BUDGETS = 4  # three parameters go through any three points
_ENOUGH_SPLITS = 5


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    srcc_target: float = 0.8
    """The report answers how many labels reach this SRCC."""
    worst_images: int = 10
    """Pictures shown for which the chosen model is farthest from the human score."""
    thumbnail_px: int = 240
    """Longest side of a picture in the report."""
    cost_per_hour: float = 0.0
    """Price of the resources of one trial for an hour, in any currency; 0: costs are left out."""

    def __post_init__(self) -> None:
        if not 0 < self.srcc_target < 1:
            raise InputError(f"report.srcc_target {self.srcc_target}: use a number between 0 and 1")
        if self.worst_images < 0 or self.thumbnail_px < 16 or not self.cost_per_hour >= 0:
            raise InputError("report: worst_images and cost_per_hour must be 0 or more, thumbnail_px 16 or more")


@dataclass(frozen=True)
class SweepResults:
    """What a sweep has left in its folder."""

    place: Location
    trials: pd.DataFrame
    """One row a trial, with the columns of results.parquet."""
    manifest: dict[str, Any]
    """Empty while the sweep has not ended."""
    chosen: dict[str, Any] | None
    """Null while nothing was chosen, such as when every trial failed."""
    searched: pd.DataFrame | None = None
    """One row a setting that a search tried, as in search.parquet; null for a plain grid."""

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["error"].isna()]

    @property
    def failed(self) -> pd.DataFrame:
        return self.trials[self.trials["error"].notna()]

    def trial_file(self, trial: str, name: str) -> Location:
        return self.place / "trials" / trial / name


def read_sweep(place: Location) -> SweepResults:
    """Read a sweep's folder. InputError when there is none, or its results lack a column."""
    file = place / "results.parquet"
    if not file.exists():
        raise InputError(f"no sweep results at {place.uri}: results.parquet is missing; run grmp sweep first")
    trials = pd.read_parquet(io.BytesIO(file.read_bytes()))
    missing = [name for name in COLUMNS if name not in trials.columns]
    if missing:
        raise InputError(f"{file.uri} lacks the columns {', '.join(missing)}; it is not a sweep's results.parquet")
    manifest = (place / "manifest.json").read_json() if (place / "manifest.json").exists() else {}
    chosen = (place / "chosen.json").read_json() if (place / "chosen.json").exists() else {}
    trials = trials.sort_values(["lambda", "budget", "split_seed"])
    tried = place / "search.parquet"
    searched = None
    if "search" in manifest.get("inputs", {}) and tried.exists():  # else it is left of another sweep in this folder
        searched = pd.read_parquet(io.BytesIO(tried.read_bytes()))
    return SweepResults(place, trials.reset_index(drop=True), manifest, chosen or None, searched)


def cells(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per lambda and budget: `n` finished splits, `failed`, and median, q1, q3 over the splits of each metric.

    Quartiles are linear interpolations; a cell without a finished split has n 0 and nan.
    """
    rows = []
    for (strength, budget), group in trials.groupby(["lambda", "budget"]):
        good = group[group["error"].isna() & group["srcc"].notna()]
        row = {"lambda": strength, "budget": int(budget), "n": len(good), "failed": int(group["error"].notna().sum())}
        for metric in ("srcc", "plcc", "val_srcc"):
            values = good[metric].to_numpy(float)
            quartiles = np.nanquantile(values, [0.5, 0.25, 0.75]) if np.isfinite(values).any() else [math.nan] * 3
            row |= {f"{metric}_{part}": value for part, value in zip(("median", "q1", "q3"), quartiles, strict=True)}
        row["seconds"] = good["seconds"].median() if len(good) else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def method_medians(results: pd.DataFrame) -> pd.DataFrame:
    """Rows with method, shots, split_seed, srcc -> median, q1, q3 and n of every method and shots, as they come."""
    groups = results.groupby(["method", "shots"], sort=False)["srcc"]
    summary = groups.quantile([0.5, 0.25, 0.75]).unstack()
    summary.columns = pd.Index(["median", "q1", "q3"])
    return summary.assign(n=groups.count()).reset_index()


def compare_methods(results: pd.DataFrame, baselines: Sequence[str]) -> pd.DataFrame:
    """Paired Wilcoxon tests of every method against each of `baselines`, split by split, at each number of shots.

    `difference`: median over the splits of method - baseline; `p` two-sided, not corrected for the number of tests.
    """
    wide = results.pivot_table(index=["shots", "split_seed"], columns="method", values="srcc")
    ran = [method for method in results["method"].unique() if method in wide.columns]
    rows = []
    for against in baselines:
        known = baselines[: baselines.index(against) + 1]  # each pair once
        for method in (m for m in ran if m not in known and against in ran):
            for shots, pair in wide[[method, against]].dropna().groupby(level="shots"):
                test = wilcoxon_paired(pair[method], pair[against])
                difference = float((pair[method] - pair[against]).median())
                rows.append((method, against, shots, len(pair), difference, test.p_value))
    return pd.DataFrame(rows, columns=["method", "against", "shots", "n", "difference", "p"])


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


def regret(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per budget: what choosing lambda by validation cost against the best lambda in hindsight.

    `lambda_chosen` has the best median val_srcc, `lambda_best` the best median test srcc; `regret` is the difference of
    their median test srcc (0 where they agree); `split_regret` the median over splits when each split chooses alone.
    """
    good = trials[trials["error"].isna() & trials["srcc"].notna()]
    rows = []
    for budget, group in good.groupby("budget"):
        medians = group.groupby("lambda")[["val_srcc", "srcc"]].median()
        if medians["val_srcc"].isna().all():
            continue
        chosen, best = medians["val_srcc"].idxmax(), medians["srcc"].idxmax()
        alone = []
        for _, split in group.dropna(subset=["val_srcc"]).groupby("split_seed"):
            alone.append(split["srcc"].max() - split.loc[split["val_srcc"].idxmax(), "srcc"])
        rows.append(
            {
                "budget": int(budget),
                "lambda_chosen": chosen,
                "srcc_chosen": medians["srcc"][chosen],
                "lambda_best": best,
                "srcc_best": medians["srcc"][best],
                "regret": medians["srcc"][best] - medians["srcc"][chosen],
                "split_regret": float(np.median(alone)),
            }
        )
    return pd.DataFrame(rows)


def paired_tests(trials: pd.DataFrame) -> pd.DataFrame:
    """Each lambda > 0 against lambda 0 at each budget, over the splits that both finished.

    Columns: `lambda`, `budget`, `n` pairs, `difference` (median of srcc minus srcc at 0), `p` (two-sided Wilcoxon
    signed-rank), `p_holm` (Holm's correction over all rows), `p_smallest` (what n pairs can reach at best, 2^(1-n)).
    """
    good = trials[trials["error"].isna() & trials["srcc"].notna()]
    table = good.pivot_table(index=["budget", "split_seed"], columns="lambda", values="srcc", aggfunc="median")
    if 0.0 not in table.columns:
        return pd.DataFrame()
    rows = []
    for strength in (value for value in table.columns if value > 0):
        for budget, pair in table[[0.0, strength]].dropna().groupby(level="budget"):
            test = wilcoxon_paired(pair[strength], pair[0.0])
            difference = float((pair[strength] - pair[0.0]).median())
            smallest = 2.0 ** (1 - len(pair))
            rows.append((strength, int(budget), len(pair), difference, test.p_value, smallest))
    tests = pd.DataFrame(rows, columns=["lambda", "budget", "n", "difference", "p", "p_smallest"])
    return tests.assign(p_holm=holm(tests["p"].to_numpy(float)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of (N,) p-values: the chance of one false finding among all of them."""
    order = np.argsort(p_values)
    steps = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def _first_lasting(budgets: np.ndarray, reached: np.ndarray) -> int | None:
    below = np.flatnonzero(~reached)
    first = int(below[-1]) + 1 if len(below) else 0
    return int(budgets[first]) if first < len(budgets) else None


def _interval(budgets: np.ndarray, values_SN: np.ndarray, target: float, seed: int) -> tuple[float, float]:
    if len(values_SN) < 3:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    found = []
    for rows in rng.integers(len(values_SN), size=(_RESAMPLES, len(values_SN))):
        drawn = values_SN[rows]
        known = np.isfinite(drawn).any(axis=0)
        if known.sum() >= 3:
            found.append(fit_saturating(budgets[known], np.nanmedian(drawn[:, known], axis=0)).budget_for(target))
    low, high = np.quantile(found, [0.05, 0.95], method="nearest") if found else (math.nan, math.nan)
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

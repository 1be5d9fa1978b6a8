"""Statistics of a sweep's results: medians over splits, labels needed, regret of the validated choice, paired tests.

Plain tables in, plain tables out; nothing here draws or writes. `budget` is the number of labelled images of a trial.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from grmp_core.evaluation.metrics import wilcoxon_paired


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


def method_medians(results: pd.DataFrame, metric: str = "srcc") -> pd.DataFrame:
    """Rows with method, shots, split_seed, metric -> median, q1, q3 and n of every method and shots, as they come."""
    groups = results.groupby(["method", "shots"], sort=False)[metric]
    summary = groups.quantile([0.5, 0.25, 0.75]).unstack()
    summary.columns = pd.Index(["median", "q1", "q3"])
    return summary.assign(n=groups.count()).reset_index()


def best_by_validation(trials: pd.DataFrame) -> pd.DataFrame:
    """For every split and number of shots, the trial with the best validation SRCC; ties go to the smaller lambda."""
    ordered = trials.sort_values(["val_srcc", "lambda"], ascending=[False, True])
    return ordered.groupby(["shots", "split_seed"]).head(1).sort_values(["shots", "split_seed"], ignore_index=True)


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

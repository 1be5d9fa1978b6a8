"""Sentences on a sweep: whether more labels helped, and whether lambda mattered."""

from __future__ import annotations

import pandas as pd

VISIBLE = 0.01
"""SRCC. An effect is a visible one where its median is at least this large and all splits agree on its direction."""


def findings(results: pd.DataFrame) -> list[str]:
    """Two sentences on test scores. Both compare trials of the same split.

    Args:
        results: rows of `results.tables.RESULTS`; failed trials do not count.
    """
    good = results[results["error"].isna()]
    srcc = good.pivot_table(index="split_seed", columns=["lambda", "budget"], values="srcc")
    fewest, most = good["budget"].min(), good["budget"].max()
    lowest, highest = good["lambda"].min(), good["lambda"].max()
    if fewest == most or lowest == highest:
        return ["One number of labels or one lambda only: there is nothing to compare."]
    by_labels = (srcc[lowest, most] - srcc[lowest, fewest]).dropna()
    by_lambda = (srcc[highest, most] - srcc[lowest, most]).dropna()
    return [
        f"More labels: SRCC {_change(by_labels)} from {fewest} to {most} labels at lambda {lowest:g}, "
        f"{_verdict(by_labels)}.",
        f"Lambda: SRCC {_change(by_lambda)} from lambda {lowest:g} to {highest:g} at {most} labels, "
        f"{_verdict(by_lambda)}.",
    ]


def _change(differences_S: pd.Series) -> str:
    low, high = differences_S.min(), differences_S.max()
    return f"{differences_S.median():+.3f} (median of {len(differences_S)} splits, {low:+.3f} to {high:+.3f})"


def _verdict(differences_S: pd.Series) -> str:
    if differences_S.empty:
        return "not measured"
    if abs(differences_S.median()) < VISIBLE:
        return "no visible effect"
    if differences_S.min() > 0:
        return "a gain in every split"
    if differences_S.max() < 0:
        return "a loss in every split"
    return "but the splits disagree"

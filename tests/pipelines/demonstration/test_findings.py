"""Sentences on the demo's sweep."""

from __future__ import annotations

import pandas as pd
import pytest

from pipelines.demonstration.findings import findings


def sweep(gains: list[float], of_lambda: list[float]) -> pd.DataFrame:
    """Splits that gain so much by 50 instead of 10 labels, and by lambda 5 instead of 0 at 50 labels."""
    rows = []
    for seed, (gain, effect) in enumerate(zip(gains, of_lambda, strict=True)):
        for strength in (0.0, 5.0):
            for shots in (10, 25, 50):
                srcc = 0.7 + (gain if shots == 50 else 0) + (effect if strength and shots == 50 else 0)
                rows.append({"split_seed": seed, "lambda": strength, "budget": shots, "srcc": srcc, "error": None})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.01, 0.03, 0.05], "a gain in every split"),
        ([-0.01, -0.03, -0.05], "a loss in every split"),
        ([-0.01, 0.03, 0.05], "but the splits disagree"),
        ([0.004, 0.009, 0.02], "no visible effect"),
    ],
)
def test_findings_say_what_the_splits_agree_on(gains: list[float], verdict: str):
    labels, _ = findings(sweep(gains, [0.0] * 3))
    assert labels.endswith(f"{verdict}.")
    assert f"SRCC {sorted(gains)[1]:+.3f} (median of 3 splits, {min(gains):+.3f} to {max(gains):+.3f})" in labels
    _, strength = findings(sweep([0.0] * 3, gains))
    assert strength.endswith(f"at 50 labels, {verdict}.")


def test_findings_leave_failed_trials_out():
    results = sweep([0.02, 0.02, 0.02], [0.0] * 3)
    results.loc[results["split_seed"] == 1, ["srcc", "error"]] = [float("nan"), "killed"]
    labels, _ = findings(results)
    assert "median of 2 splits" in labels


def test_one_cell_has_nothing_to_compare():
    results = sweep([0.02], [0.0])
    assert len(findings(results[results["budget"] == 50])) == 1

"""Tables of an ablation: medians by method, and paired tests."""

from __future__ import annotations

import pandas as pd

from pipelines.ablation.arms import LINEAR, LOOK, NSS, RANDOM
from pipelines.results.statistics import compare_methods, method_medians
from pipelines.runtime.console import table

AGAINST = (NSS, LINEAR, LOOK, RANDOM)
"""Methods that all others are compared with."""


def medians_text(results: pd.DataFrame) -> str:
    """Table of methods by shots: median test SRCC over the splits, with quartiles."""
    medians = method_medians(results)
    rows = []
    for method, group in medians.groupby("method", sort=False):
        cells = {f"{row.shots} shots": f"{row.median:.3f} [{row.q1:.3f}, {row.q3:.3f}]" for row in group.itertuples()}
        rows.append({"median test SRCC [quartiles]": method, **cells})
    return table(rows)


def tests_text(results: pd.DataFrame) -> str:
    """Table of paired tests over splits, for all shots together and for each number of shots."""
    rows = [
        {"method": r.method, "against": r.against, "shots": r.shots, "median difference": r.difference, "p": r.p}
        for r in compare_methods(results, AGAINST).itertuples()
    ]
    return table(rows)

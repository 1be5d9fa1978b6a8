"""Test predictions of all arms in one table: what every number of an ablation is computed from."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from grmp_core.evaluation.metrics import srcc, within_srcc
from pipelines.results.tables import Schema

PREDICTIONS = Schema(
    {
        "method": pa.string(),
        "shots": pa.int64(),
        "split_seed": pa.int64(),
        "lambda": pa.float64(),
        "image_path": pa.string(),
        "mos": pa.float64(),
        "predicted": pa.float64(),
    }
)
"""One row an arm, number of shots, split and test image; `predicted` is on the scale of `mos`, lambda NaN for
baselines."""
COLUMNS = ("shots", "split_seed", "method", "srcc", "lambda")
"""Of the ablation's results, one row an arm, number of shots and split; with scenes also `WITHIN`."""
WITHIN = "srcc_within_scenes"


def results_of(predictions: pd.DataFrame, scene_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Test SRCC of every arm, number of shots and split: `COLUMNS`, arms as they come.

    scene_of: image path -> scene; null: no SRCC within scenes.
    """
    rows, within = [], []
    for (method, shots, seed), test in predictions.groupby(["method", "shots", "split_seed"], sort=False):
        pair = test["predicted"].to_numpy(), test["mos"].to_numpy()
        rows.append((shots, seed, method, srcc(*pair), test["lambda"].iloc[0]))
        if scene_of is not None:
            within.append(within_srcc(*pair, test["image_path"].map(scene_of)))
    results = pd.DataFrame(rows, columns=list(COLUMNS))
    return results if scene_of is None else results.assign(**{WITHIN: within})

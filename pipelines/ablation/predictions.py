"""Test predictions of all arms in one table: what every number of an ablation is computed from."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from grmp_core.evaluation.metrics import srcc
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
"""Of the ablation's results, one row an arm, number of shots and split."""


def results_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Test SRCC of every arm, number of shots and split: `COLUMNS`, arms as they come."""
    rows = [
        (shots, seed, method, srcc(test["predicted"].to_numpy(), test["mos"].to_numpy()), test["lambda"].iloc[0])
        for (method, shots, seed), test in predictions.groupby(["method", "shots", "split_seed"], sort=False)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))

"""SRCC and PLCC as metrics of `mlflow.models.evaluate`, for the registered model and any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mlflow.metrics import MetricValue, make_metric

from grmp_core.evaluation import metrics


def rank_metrics() -> list[Any]:
    """`srcc` and `plcc` for `extra_metrics`; rows without a prediction or a target take no part.

    The model's column is named by `predictions`, as in
    `evaluate(uri, table, targets="mos", predictions="mos_scale_score", extra_metrics=rank_metrics())`.
    """
    measures = {"srcc": metrics.srcc, "plcc": metrics.plcc}
    return [make_metric(eval_fn=_over_rows(f), greater_is_better=True, name=name) for name, f in measures.items()]


def _over_rows(measure: Callable[[np.ndarray, np.ndarray], float]) -> Callable[..., MetricValue]:
    def eval_fn(predictions: Any, targets: Any) -> MetricValue:
        predicted, human = (np.asarray(column, dtype=float) for column in (predictions, targets))
        known = np.isfinite(predicted) & np.isfinite(human)
        value = float(measure(predicted[known], human[known]))
        return MetricValue(scores=predicted.tolist(), aggregate_results={"value": value, "n": int(known.sum())})

    return eval_fn

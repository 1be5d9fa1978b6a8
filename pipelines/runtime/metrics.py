"""Counters and histograms of the workloads, which Ray exports to Prometheus with `ray_` before their names.

A process without Ray counts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ray
from ray.util import metrics


@dataclass(frozen=True)
class Metric:
    description: str
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()
    """Upper ends of a histogram's bins; empty for a counter."""
    is_gauge: bool = False


_TENTHS = tuple(i / 10 for i in range(1, 11))
METRICS = {
    "grmp_images_scored": Metric("Images that have a score.", ("model",)),
    "grmp_images_rejected": Metric("Images without a score, by the kind of the reason.", ("reason",)),
    "grmp_images_unlike": Metric("Scored images unlike those that the model was adapted to.", ("model",)),
    "grmp_score": Metric("Quality of the scored images, in [0, 1].", ("model",), _TENTHS),
    "grmp_requests": Metric("Answers of the scoring server, by HTTP status.", ("status",)),
    "grmp_request_seconds": Metric(
        "Seconds from a scoring request to its answer.",
        boundaries=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    ),
    "grmp_images_waiting": Metric("Images in work and waiting at an ingress.", is_gauge=True),
    "grmp_batch_images": Metric("Images of one call of a scoring replica.", boundaries=(1, 2, 4, 8, 16, 32, 64)),
    "grmp_retries": Metric("Images asked for again because their replica had died."),
    "grmp_model_loads": Metric("Versions that a scoring replica took over, or could not.", ("outcome",)),
    "grmp_trials": Metric("Trials of a sweep that ended: of the grid, or settings of a search.", ("kind",)),
    "grmp_outer_steps": Metric("Outer steps of pre-training."),
    "grmp_images_synthesized": Metric("Distorted images that were written."),
}
_KINDS_OF_A_TAG = 64
_seen: dict[str, set[str]] = {}


def count(name: str, amount: float = 1, **tags: str) -> None:
    """Raise a counter of METRICS by `amount`."""
    if amount and ray.is_initialized():
        _of(name).inc(amount, tags=_bounded(tags))


def observe(name: str, value: float, **tags: str) -> None:
    """Put a value into a histogram of METRICS, or set a gauge to it."""
    if ray.is_initialized():
        metric = _of(name)
        (metric.set if METRICS[name].is_gauge else metric.observe)(value, tags=_bounded(tags))


def _bounded(tags: dict[str, str]) -> dict[str, str]:
    """A tag with more than a few dozen values becomes `other`: each value is a series of its own in Prometheus."""
    for key, value in tags.items():
        seen = _seen.setdefault(key, set())
        if value not in seen and len(seen) >= _KINDS_OF_A_TAG:
            tags = {**tags, key: "other"}
        seen.add(tags[key])
    return tags


@cache
def _of(name: str) -> Any:
    metric = METRICS[name]
    if metric.boundaries:
        return metrics.Histogram(name, metric.description, list(metric.boundaries), metric.tags)
    return (metrics.Gauge if metric.is_gauge else metrics.Counter)(name, metric.description, metric.tags)

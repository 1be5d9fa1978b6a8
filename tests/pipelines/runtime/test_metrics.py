"""Counters for Prometheus, and the number of series that tags can make."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.runtime import metrics


class Recorded:
    def __init__(self) -> None:
        self.calls: list[tuple[str, float, dict[str, str]]] = []

    def __getattr__(self, kind: str) -> Any:
        return lambda value, tags: self.calls.append((kind, value, tags))


@pytest.fixture
def recorded(monkeypatch) -> Recorded:
    made = Recorded()
    monkeypatch.setattr(metrics, "_of", lambda name: made)
    monkeypatch.setattr(metrics, "_seen", {})
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: True)
    return made


def test_counters_histograms_and_gauges(recorded):
    metrics.count("grmp_images_scored", 3, model="a")
    metrics.count("grmp_images_scored", 0, model="a")
    metrics.observe("grmp_score", 0.5, model="a")
    metrics.observe("grmp_images_waiting", 7)
    assert recorded.calls == [("inc", 3, {"model": "a"}), ("observe", 0.5, {"model": "a"}), ("set", 7, {})]


def test_a_tag_has_a_few_dozen_values_at_most(recorded):
    for i in range(1000):
        metrics.count("grmp_images_rejected", reason=f"reason {i}")
    metrics.count("grmp_images_rejected", reason="reason 3")
    reasons = [tags["reason"] for _, _, tags in recorded.calls]
    assert len(set(reasons)) == 65
    assert reasons[-2:] == ["other", "reason 3"]


def test_without_ray_nothing_is_counted(recorded, monkeypatch):
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: False)
    metrics.count("grmp_outer_steps")
    metrics.observe("grmp_score", 0.5, model="a")
    assert not recorded.calls


@pytest.mark.parametrize("name", metrics.METRICS)
def test_every_metric_can_be_made(name):
    metric = metrics._of(name)
    assert metric.info["name"] == name
    assert metric.info["description"].endswith(".")

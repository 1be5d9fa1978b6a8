"""Which images a process scores by itself, and which Ray does."""

from __future__ import annotations

import os

import pytest

from pipelines.configuration.scoring import ScoreConfig
from pipelines.scoring.batch_scorer import needs_no_ray

MANY = 100_000


@pytest.mark.parametrize(
    ("settings", "address", "cpus", "count", "expected"),
    [
        ({}, None, 2, MANY, True),
        ({}, "local", 8, MANY, True),
        ({}, None, 9, MANY, False),
        ({}, None, 64, 256, True),
        ({}, "10.0.0.1:6379", 2, 257, False),
        ({}, "10.0.0.1:6379", 2, 256, True),
        ({"workers": 2}, None, 2, 257, False),
        ({"local_images": 5}, None, 2, 6, False),
        ({"local_images": 5}, "10.0.0.1:6379", 64, 5, True),
        ({"gpus_per_worker": 1}, None, 2, 1, False),
    ],
)
def test_ray_is_for_clusters_large_machines_and_those_who_ask(monkeypatch, settings, address, cpus, count, expected):
    """GPUs are asked for on a machine without one."""
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert needs_no_ray(ScoreConfig(**settings), count) == expected


def test_a_process_that_may_not_use_all_cores_leaves_many_images_to_ray(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not needs_no_ray(ScoreConfig(), MANY)
    assert needs_no_ray(ScoreConfig(), 256)

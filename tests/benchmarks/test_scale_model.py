"""The scale model where it has closed forms."""

from __future__ import annotations

import dataclasses

import pytest

from tests.benchmarks.outer_step_model import (
    GPU,
    all_reduce_s,
    best_replicas,
    bottleneck,
    efficiency,
    enough_workers,
    outer_step,
)
from tests.benchmarks.scale_model import line_through

COMPUTE_ONLY = dataclasses.replace(
    GPU, read_s=0, task_bytes=0, prompt_values=0, latency_s=0, checkpoint_s=0, fixed_s=0, indivisible=0
)


def test_one_worker_is_the_measure_of_all():
    assert efficiency(GPU, 25, 1) == 1
    assert all_reduce_s(GPU, 1) == 0
    assert bottleneck(GPU, 25, 1) == "none"


@pytest.mark.parametrize("workers", [1, 5, 25])
def test_workers_that_divide_the_tasks_lose_nothing_but_overhead(workers):
    assert efficiency(COMPUTE_ONLY, 25, workers) == pytest.approx(1)
    assert efficiency(GPU, 25, workers) <= 1


@pytest.mark.parametrize("workers", [26, 64, 512])
def test_more_workers_than_tasks_are_bounded_by_the_tasks_without_replicas(workers):
    assert efficiency(COMPUTE_ONLY, 25, workers) == pytest.approx(25 / workers)
    assert bottleneck(COMPUTE_ONLY, 25, workers) == "idle workers"
    assert efficiency(COMPUTE_ONLY, 25, workers, best_replicas(COMPUTE_ONLY, 25, workers)) >= 25 / workers


def test_replicas_share_a_task_evenly_up_to_an_image_each():
    assert best_replicas(COMPUTE_ONLY, 25, 50) == 2
    assert efficiency(COMPUTE_ONLY, 25, 50, 2) == pytest.approx(1)
    assert best_replicas(COMPUTE_ONLY, 1, 512) == COMPUTE_ONLY.batch_size


def test_a_ring_sends_every_byte_almost_twice():
    costs = dataclasses.replace(COMPUTE_ONLY, prompt_values=1_000_000, link_bytes_per_s=1e9)
    assert all_reduce_s(costs, 2) == pytest.approx(8e6 / 1e9)
    assert all_reduce_s(costs, 1000) == pytest.approx(2 * 8e6 / 1e9, rel=0.01)
    assert all_reduce_s(dataclasses.replace(COMPUTE_ONLY, latency_s=1e-3), 11) == pytest.approx(0.02)


def test_slow_storage_is_named():
    slow = dataclasses.replace(COMPUTE_ONLY, task_bytes=1e9, storage_bytes_per_s=1e9, kept_bytes=0)
    step = outer_step(slow, 25, 25)
    assert step.reading == 25 - step.learning  # views are read while others are learned
    assert bottleneck(slow, 25, 25) == "reading"


def test_views_that_a_worker_keeps_are_not_read_again():
    slow = dataclasses.replace(
        COMPUTE_ONLY, task_bytes=1e9, storage_bytes_per_s=1e9, whole_task_bytes=4e9, kept_bytes=0
    )
    assert outer_step(dataclasses.replace(slow, kept_bytes=4e9), 25, 25).reading == 0
    half = dataclasses.replace(slow, kept_bytes=2e9)
    assert outer_step(half, 25, 25).reading == pytest.approx(25 / 2 - slow.learn_s)


def test_a_checkpoint_costs_what_is_longer_than_the_steps_between():
    slow = dataclasses.replace(COMPUTE_ONLY, learn_s=0.25, checkpoint_s=10, checkpoint_every=10)
    assert outer_step(slow, 25, 5).checkpoint == 0
    assert outer_step(slow, 25, 25).checkpoint == 0.75


def test_the_fewest_workers_that_are_as_fast():
    assert enough_workers(25, 8, 1) == 7
    assert enough_workers(25, 64, 2) == 50
    assert enough_workers(25, 5, 1) == 5


def test_a_line_from_noise_is_never_negative():
    assert line_through(1, 3, 2, 5) == (2, 1)
    assert line_through(1, 5, 2, 3) == (0, 5)

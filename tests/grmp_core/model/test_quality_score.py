"""The protocol of torchmetrics: update, reset, merging, synchronization, pickling."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch

import grmp_core
from grmp_core.model.differentiable import ImageQuality
from tests.grmp_core.model.test_differentiable import bundle_of, noise

pytest.importorskip("torchmetrics")
from grmp_core import QualityScore


@pytest.fixture(scope="module")
def module(make_backbone) -> ImageQuality:
    return ImageQuality(bundle_of(make_backbone, score_grid=1), "test")


def test_it_is_the_mean_over_images_of_all_updates(module):
    metric = QualityScore(module)
    first, second = noise(3), noise(1, 40, 70, seed=1)
    torch.testing.assert_close(metric(first), module(first).mean())  # of this batch alone
    metric.update(second)
    torch.testing.assert_close(metric.compute(), torch.cat([module(first), module(second)]).mean())
    assert not metric.compute().requires_grad


def test_reset_forgets(module):
    metric = QualityScore(module)
    metric.update(noise(3))
    metric.reset()
    assert (metric.total, metric.images) == (0, 0)
    metric.update(noise(2, seed=1))
    torch.testing.assert_close(metric.compute(), module(noise(2, seed=1)).mean())


def test_states_merge(module):
    parts = [noise(3), noise(2, seed=1)]
    one, other, both = (QualityScore(module) for _ in range(3))
    one.update(parts[0])
    other.update(parts[1])
    both.update(torch.cat(parts))
    one.merge_state(other)
    torch.testing.assert_close(one.compute(), both.compute())
    one.merge_state({"total": torch.tensor(1.0), "images": torch.tensor(1)})
    assert int(one.images) == 6


def test_processes_are_synchronized_and_separated_again(module):
    """Two processes, of which the other has twice as much of everything."""
    metric = QualityScore(
        module, dist_sync_fn=lambda state, group: [state, 2 * state], distributed_available_fn=lambda: True
    )
    metric.update(noise(2))
    alone = metric.total.clone()
    metric.sync(dist_sync_fn=metric.dist_sync_fn, distributed_available=lambda: True)
    assert (metric.total, metric.images) == (3 * alone, 6)
    metric.unsync()
    assert (metric.total, metric.images) == (alone, 2)


def test_a_pickled_one_goes_on_where_it_was(module):
    metric = QualityScore(module)
    metric.update(noise(2))
    twin = pickle.loads(pickle.dumps(metric))  # noqa: S301
    torch.testing.assert_close(twin.compute(), metric.compute())
    for each in (metric, twin):
        each.update(noise(1, seed=5))
    torch.testing.assert_close(twin.compute(), metric.compute())


def test_an_image_can_be_improved_by_it(module):
    metric, images = QualityScore(module), noise(1).requires_grad_()
    metric(images).backward()
    assert images.grad.abs().max() > 0


def test_nothing_seen_is_no_quality(module):
    with pytest.warns(UserWarning, match="before"):
        assert QualityScore(module).compute().isnan()


def test_without_torchmetrics_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "grmp_core.model.quality_score")
    with pytest.raises(ImportError, match=r"pip install 'grmp-iqa\[metrics\]'"):
        _ = grmp_core.QualityScore

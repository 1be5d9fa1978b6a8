"""Losses about order against SciPy, finite differences and triplets worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from grmp_core.errors import InputError
from grmp_core.learning.episode_plan import plan_episode
from grmp_core.learning.losses import quality_loss
from grmp_core.learning.rank_losses import (
    feature_triplet_loss,
    meta_loss,
    msrcc_loss,
    runs_of_levels,
    soft_ranks,
    soft_srcc,
    triplet_loss,
)
from grmp_core.learning.settings import MetaConfig
from grmp_core.tasks.distortion_tasks import LEVELS

ONE = torch.tensor([[0, 1, 2]])


@given(st.lists(st.integers(-40, 40), min_size=3, max_size=12), st.integers(0, 2**32 - 1))
def test_ranks_and_correlation_are_scipys_where_values_are_well_apart(values, seed):
    """Ties included; whole numbers are 20 temperatures apart."""
    predicted = np.array(values, dtype=float)
    quality = np.random.default_rng(seed).integers(0, 5, len(values)).astype(float)
    ours = soft_ranks(torch.from_numpy(predicted)).numpy()
    np.testing.assert_allclose(ours, rankdata(predicted), atol=1e-6)
    if len(set(values)) > 1 and len(set(quality)) > 1:
        found = float(soft_srcc(torch.from_numpy(predicted), torch.from_numpy(quality)))
        assert found == pytest.approx(spearmanr(predicted, quality).statistic, abs=1e-5)


def test_the_gradient_of_the_rank_correlation_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(7, dtype=torch.float64, generator=generator).requires_grad_()
    quality = torch.rand(7, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda p: msrcc_loss(p, quality), predicted)
    assert torch.autograd.gradgradcheck(lambda p: msrcc_loss(p, quality), predicted)  # second-order MAML


def test_equal_predictions_or_labels_leave_every_gradient_finite():
    same, different = torch.full((4,), 0.5), torch.tensor([0.1, 0.2, 0.6, 0.9])
    for predicted, quality in ((same, different), (different, same)):
        leaf = predicted.clone().requires_grad_()
        msrcc_loss(leaf, quality).backward()
        assert torch.isfinite(leaf.grad).all()
        assert float(soft_srcc(predicted, quality)) == pytest.approx(0, abs=1e-6)


def test_the_squared_error_and_the_correlation_count_a_half_each():
    predicted, quality = torch.tensor([0.0, 2.0, 1.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert float(msrcc_loss(predicted, quality)) == pytest.approx(0.5 * 2 / 4 + 0.5 * (1 - 0.8), abs=1e-5)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ((0.9, 0.55, 0.1), 0.0),  # in order, apart by the labels or more
        ((0.8, 0.6, 0.2), 0.1),  # .3 wanted, .2 found
        ((0.2, 0.5, 0.1), 0.6),  # the wrong way round by .3, and right by .4
        ((0.5, 0.5, 0.5), 0.7),
    ],
)
def test_triplets_worked_by_hand(predicted, expected):
    """Labels .8, .5 and .1."""
    leaf = torch.tensor(predicted, dtype=torch.float64).requires_grad_()
    loss = triplet_loss(leaf, torch.tensor([0.8, 0.5, 0.1], dtype=torch.float64), ONE)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
    loss.backward()
    assert (leaf.grad.abs().sum() > 0) == (expected > 0)


def test_triplets_of_features_worked_by_hand():
    """Angles of 0, 60 and 90 degrees: cosines of .5 and 0 to the mildest, so the middle one is nearer by .5."""
    angles = torch.tensor([0.0, torch.pi / 3, torch.pi / 2], dtype=torch.float64).requires_grad_()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    for labels, expected in (((0.9, 0.8, 0.3), 0.0), ((0.9, 0.8, 0.2), 0.1), ((0.9, 0.2, 0.8), 0.0)):
        loss = feature_triplet_loss(features, torch.tensor(labels, dtype=torch.float64), ONE)
        (gradient,) = torch.autograd.grad(loss, angles, retain_graph=True)
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
        assert (gradient.abs().sum() > 0) == (expected > 0)


def test_triplets_stay_within_a_reference_and_the_last_one_may_be_cut():
    assert runs_of_levels(2).shape == (0, 3)
    triplets = runs_of_levels(8)
    assert len(triplets) == 10 + 1
    assert triplets[-1].tolist() == [5, 6, 7]
    assert (triplets.diff(dim=1) > 0).all()
    assert (triplets // len(LEVELS) == triplets[:, :1] // len(LEVELS)).all()
    leaf = torch.tensor([0.2, 0.4]).requires_grad_()
    triplet_loss(leaf, torch.tensor([0.3, 0.1]), runs_of_levels(2)).backward()
    assert leaf.grad.tolist() == [0, 0]


def test_the_published_loss_is_the_default():
    logits, quality = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), torch.linspace(0, 1, 6)
    assert torch.equal(meta_loss(logits, quality, MetaConfig().loss), quality_loss(logits, quality))
    predicted = logits.softmax(-1)[:, 0]
    assert torch.equal(meta_loss(logits, quality, "msrcc"), msrcc_loss(predicted, quality))
    assert torch.equal(meta_loss(logits, quality, "triplet"), triplet_loss(predicted, quality, runs_of_levels(6)))


def test_batches_for_triplets_hold_whole_references_at_rising_severity():
    config = MetaConfig(loss="triplet", batch_size=12, inner_steps=2)
    plan = plan_episode("jpeg", 3, {"support": 4, "query": 2}, config, seed=1)
    for rows, references in ((plan.support, 4), (plan.query, 2)):
        assert len(rows) == 24
        for batch in (rows[:12], rows[12:]):
            assert [level for _, level in batch] == [*LEVELS, *LEVELS, 1, 2]
            assert all(len({index for index, _ in batch[i : i + 5]}) == 1 for i in (0, 5, 10))
        assert {index for index, _ in rows} == set(range(references))
    assert plan == plan_episode("jpeg", 3, {"support": 4, "query": 2}, config, seed=1)
    with pytest.raises(InputError, match="batch_size 3 or more"):
        MetaConfig(loss="triplet", batch_size=2)

"""Losses over pairs against loops over SciPy's normal distribution."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from grmp_core.continual.pair_losses import better_probability, pair_distillation_loss, pair_ranking_loss

SCORES = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
LABELS = torch.tensor([0.5, 0.2, 0.9, 0.5], dtype=torch.float64)


def fidelity(p: float, target: float) -> float:
    return 1 - math.sqrt(p * target) - math.sqrt((1 - p) * (1 - target))


def probability(scores: torch.Tensor, i: int, j: int) -> float:
    return float(norm.cdf((scores[i] - scores[j]).item() / math.sqrt(2)))


def test_ranking_is_the_mean_over_all_pairs_and_a_tie_wants_one_half():
    losses = [
        fidelity(probability(SCORES, i, j), 0.5 * (1 + np.sign(float(LABELS[i] - LABELS[j]))))
        for i, j in itertools.combinations(range(4), 2)
    ]
    assert float(pair_ranking_loss(SCORES, LABELS)) == pytest.approx(np.mean(losses), abs=1e-3)
    assert float(better_probability(SCORES)[2]) == pytest.approx(probability(SCORES, 0, 3))


def test_ranking_reads_the_order_of_labels_and_differences_of_scores_only():
    loss = pair_ranking_loss(SCORES, LABELS)
    assert torch.equal(pair_ranking_loss(SCORES, 100 * LABELS**3 - 7), loss)
    torch.testing.assert_close(pair_ranking_loss(SCORES + 5, LABELS), loss)
    assert pair_ranking_loss(-SCORES, LABELS) > loss


def test_an_image_of_weight_two_is_the_image_twice_but_for_the_pair_with_itself():
    three = [0, 1, 2]
    weighed = pair_ranking_loss(SCORES[three], LABELS[three], torch.tensor([2.0, 1, 1], dtype=torch.float64))
    pairs = [fidelity(probability(SCORES, i, j), float(LABELS[i] > LABELS[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert float(weighed) == pytest.approx((2 * pairs[0] + 2 * pairs[1] + pairs[2]) / 5, abs=1e-3)


def test_distillation_pulls_towards_the_other_scores_and_stops_there():
    scores = SCORES.clone().requires_grad_()
    before = torch.tensor([1.0, 0.5, -0.2, 0.0], dtype=torch.float64)
    expected = [
        fidelity(probability(SCORES, i, j), probability(before, i, j)) for i, j in itertools.combinations(range(4), 2)
    ]
    loss = pair_distillation_loss(scores, before)
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert pair_distillation_loss(SCORES - 0.1 * gradient, before) < loss
    (gradient,) = torch.autograd.grad(pair_distillation_loss(scores, SCORES + 3), scores)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("loss", [pair_ranking_loss, pair_distillation_loss])
def test_gradients_are_those_of_finite_differences_and_finite_far_apart(loss):
    assert torch.autograd.gradcheck(lambda scores: loss(scores, LABELS), SCORES.clone().requires_grad_())
    far = torch.tensor([50.0, -50.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(loss(far, LABELS), far)[0]).all()


@pytest.mark.parametrize("loss", [pair_ranking_loss, pair_distillation_loss])
def test_one_image_has_no_pair(loss):
    score = torch.ones(1, requires_grad=True)
    value = loss(score, torch.ones(1))
    assert value.item() == 0
    assert torch.autograd.grad(value, score)[0].item() == 0

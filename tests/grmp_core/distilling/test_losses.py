"""Losses of distillation against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.distilling.losses import imitation_loss, pair_loss

qualities = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_a_pair_costs_the_divergence_of_two_bernoullis():
    predicted, target = torch.tensor([0.6, 0.5]), torch.tensor([0.4, 0.7])
    expected = kl(1 / (1 + math.exp(3)), 1 / (1 + math.exp(-1)))
    assert pair_loss(predicted, target, temperature=0.1).item() == pytest.approx(expected, rel=1e-5)


@given(qualities, st.floats(-1, 1))
def test_equal_differences_cost_nothing_and_the_mean_does_not_matter(target, shift):
    values = torch.tensor(target, dtype=torch.float64)
    assert pair_loss(values + shift, values).item() == pytest.approx(0, abs=1e-9)


@given(qualities, st.randoms())
def test_any_other_order_costs_something(target, random):
    values = torch.tensor(target, dtype=torch.float64)
    other = torch.tensor(random.sample(target, len(target)), dtype=torch.float64)
    apart = ((other[:, None] - other) - (values[:, None] - values)).abs().max()
    assert (pair_loss(other, values).item() > 1e-9) == (apart > 1e-5) or apart < 1e-3


def test_gradients_are_those_of_finite_differences():
    target = torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64)
    predicted = torch.tensor([0.3, 0.5, 0.45], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: imitation_loss(p, target, 0.04), (predicted,))


def test_the_mean_costs_one_beside_the_order_and_one_image_has_no_order():
    target = torch.tensor([0.2, 0.4, 0.9])
    mean = target.mean().expand(3)
    variance = float(target.var(correction=0))
    assert (imitation_loss(mean, target, variance) - pair_loss(mean, target)).item() == pytest.approx(1, rel=1e-5)
    assert pair_loss(target[:1], target[:1]).item() == 0

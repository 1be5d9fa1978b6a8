"""The losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.nano.objective import (
    RANKING_GAP,
    RANKING_SHARPNESS,
    pair_loss,
    ranking_loss,
    soft_caption_loss,
)

NAN = float("nan")


def test_soft_caption_loss_is_cross_entropy_over_the_known_rows():
    logits = torch.randn(3, 4)
    targets = torch.tensor([[0.2, 0.8, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1.0]])
    log_p = logits.log_softmax(dim=-1)
    expected = -(0.2 * log_p[0, 0] + 0.8 * log_p[0, 1] + log_p[2, 3]) / 2
    torch.testing.assert_close(soft_caption_loss(logits, targets), expected)
    assert float(soft_caption_loss(logits, torch.zeros(3, 4))) == 0


@given(st.floats(0.02, 0.98), st.floats(-4, 4))
def test_pair_loss_is_the_divergence_of_two_coins(quality, margin):
    logits = torch.tensor([[[margin, 0.0]], [[7.0, 0.0]]])
    asked = 1 / (1 + math.exp(-margin))
    expected = quality * math.log(quality / asked) + (1 - quality) * math.log((1 - quality) / (1 - asked))
    assert float(pair_loss(logits, torch.tensor([quality, NAN]))) == pytest.approx(expected, abs=1e-5)


def test_pair_loss_is_least_at_the_quality_itself():
    quality = torch.tensor([0.3, 0.9])
    logits = torch.stack([quality.logit(), torch.zeros(2)], dim=1)[:, None]
    assert float(pair_loss(logits, quality)) == pytest.approx(0, abs=1e-6)


def test_ranking_loss_is_ranknets_on_the_pairs_of_known_quality():
    margins, quality = torch.tensor([0.3, -0.2, 5.0]), torch.tensor([0.6, 0.55, NAN])
    certainty = 1 / (1 + math.exp(-0.05 / RANKING_GAP))
    asked = 1 / (1 + math.exp(-0.5 * RANKING_SHARPNESS))
    expected = -certainty * math.log(asked) - (1 - certainty) * math.log(1 - asked)
    assert float(ranking_loss(margins, quality)) == pytest.approx(expected, rel=1e-5)
    assert float(ranking_loss(margins, torch.tensor([0.6, NAN, NAN]))) == 0

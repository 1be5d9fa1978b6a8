"""The losses against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import pearsonr

from grmp_core.learning.losses import adaptation_loss, concordance_loss, correlation_loss, quality_loss, semantic_loss


def test_quality_loss_is_binary_cross_entropy_of_the_good_phrase():
    logits = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()
    quality = torch.linspace(0, 1, 6)
    expected = F.binary_cross_entropy(logits.softmax(-1)[:, 0], quality)
    torch.testing.assert_close(quality_loss(logits, quality), expected)


def test_quality_loss_is_lowest_at_the_label():
    quality = torch.tensor([0.3])
    losses = [float(quality_loss(torch.tensor([[x, 0.0]]), quality)) for x in torch.linspace(-3, 3, 601)]
    best = torch.linspace(-3, 3, 601)[int(torch.tensor(losses).argmin())]
    assert abs(float(best.sigmoid()) - 0.3) < 0.005


def test_semantic_loss_is_the_divergence_of_the_softmaxes():
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(5, 9, generator=generator), torch.randn(5, 9, generator=generator)
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean() * 4
    torch.testing.assert_close(semantic_loss(student, teacher, temperature=2.0), expected)


def test_semantic_loss_and_its_gradient_vanish_in_agreement():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = semantic_loss(logits, logits.detach())
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-7, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-7, rtol=0)


def test_correlation_loss_is_pearsons_and_blind_to_scale():
    rng = np.random.default_rng(0)
    predicted, quality = rng.random(9), rng.random(9)
    found = float(correlation_loss(torch.from_numpy(predicted), torch.from_numpy(quality)))
    assert found == pytest.approx((1 - pearsonr(predicted, quality).statistic) / 2)
    scaled = correlation_loss(torch.from_numpy(0.1 * predicted + 0.3), torch.from_numpy(quality))
    assert float(scaled) == pytest.approx(found)
    two = torch.tensor([0.2, 0.4], requires_grad=True)
    correlation_loss(two, torch.tensor([0.1, 0.5])).backward()
    assert two.grad.tolist() == [0, 0]


def test_concordance_loss_is_lins():
    """CCC = 2 cov / (var + var + (difference of means)^2), with NumPy's moments; 1 for equal values only."""
    rng = np.random.default_rng(1)
    a, b = rng.random(9), rng.random(9)
    ccc = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert float(concordance_loss(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(1 - ccc)
    assert float(concordance_loss(torch.from_numpy(b), torch.from_numpy(b))) == pytest.approx(0)
    assert float(concordance_loss(torch.from_numpy(b + 0.2), torch.from_numpy(b))) > 0.1


def test_adaptation_loss_is_the_published_one_unless_another_is_chosen():
    generator = torch.Generator().manual_seed(2)
    logits, quality = torch.randn(8, 2, generator=generator), torch.rand(8, generator=generator)
    assert torch.equal(adaptation_loss(logits, quality), quality_loss(logits, quality))
    predicted = logits.softmax(-1)[:, 0]
    expected = concordance_loss(predicted, quality) + 2 * correlation_loss(predicted, quality)
    torch.testing.assert_close(adaptation_loss(logits, quality, "concordance"), expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "concordance"])
def test_a_weight_of_two_is_the_image_twice_and_equal_weights_change_nothing(kind):
    generator = torch.Generator().manual_seed(3)
    logits, quality = torch.randn(6, 2, generator=generator), torch.rand(6, generator=generator)
    weight = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])
    rows = torch.repeat_interleave(torch.arange(6), weight.long())
    repeated = adaptation_loss(logits[rows], quality[rows], kind)
    torch.testing.assert_close(adaptation_loss(logits, quality, kind, weight), repeated)
    torch.testing.assert_close(adaptation_loss(logits, quality, kind, 5 * weight), repeated)
    assert not torch.isclose(repeated, adaptation_loss(logits, quality, kind))
    torch.testing.assert_close(
        adaptation_loss(logits, quality, kind, torch.full((6,), 0.7)), adaptation_loss(logits, quality, kind)
    )

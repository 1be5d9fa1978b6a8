"""Losses of the method, and one more. Shapes: B images, K class phrases, S scenes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.continual.pair_losses import pair_ranking_loss
from grmp_core.learning.settings import AdaptLoss


def quality_loss(logits_BK: Tensor, quality_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Mean cross-entropy against the soft label (quality, 1 − quality); the first class phrase is the good one.

    The published code has the same loss as a binary cross-entropy on softmax(logits)[0].

    Args:
        logits_BK: K = 2 logits per image.
        quality_B: in [0, 1].
        weight_B: how much an image counts, above 0; null: all alike. A weight of 2 is the image twice.
    """
    log_probability_BK = F.log_softmax(logits_BK.float(), dim=-1)
    return -_mean(quality_B * log_probability_BK[:, 0] + (1 - quality_B) * log_probability_BK[:, 1], weight_B)


def correlation_loss(predicted_B: Tensor, quality_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """(1 - Pearson's correlation) / 2, in [0, 1]: blind to the scale of both. 0, with a zero gradient, for fewer than
    three images. weight_B: as of `quality_loss`."""
    if len(quality_B) < 3:
        return predicted_B.sum() * 0
    a, b = predicted_B - _mean(predicted_B, weight_B), quality_B - _mean(quality_B, weight_B)
    if weight_B is not None:
        a, b = weight_B.sqrt() * a, weight_B.sqrt() * b
    return (1 - F.cosine_similarity(a, b, dim=0)) / 2


def concordance_loss(predicted_B: Tensor, quality_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """1 - concordance correlation (Lin 1989), in [0, 2]: Pearson's correlation, less for another mean or spread.

    0, with a zero gradient, for fewer than three images. weight_B: as of `quality_loss`.
    """
    if len(quality_B) < 3:
        return predicted_B.sum() * 0
    middle_a, middle_b = _mean(predicted_B, weight_B), _mean(quality_B, weight_B)
    a, b = predicted_B - middle_a, quality_B - middle_b
    apart = _mean(a.square(), weight_B) + _mean(b.square(), weight_B) + (middle_a - middle_b).square()
    return 1 - 2 * _mean(a * b, weight_B) / apart.clamp(min=1e-12)


def adaptation_loss(
    logits_BK: Tensor, quality_B: Tensor, kind: AdaptLoss = "cross_entropy", weight_B: Tensor | None = None
) -> Tensor:
    """`quality_loss`, the sum of `concordance_loss` and twice `correlation_loss` of the predicted qualities, or
    `pair_ranking_loss` of the differences of the logits.

    The sum is not in the published code. The mean cross-entropy of a few labels is mostly about their mean, which no
    rank shows; correlation is about the ranks, concordance keeps the scale. weight_B: as of `quality_loss`.
    """
    if kind == "cross_entropy":
        return quality_loss(logits_BK, quality_B, weight_B)
    if kind == "pairs":
        return pair_ranking_loss(margins(logits_BK), quality_B, weight_B)
    predicted_B = torch.softmax(logits_BK.float(), dim=-1)[:, 0]
    return concordance_loss(predicted_B, quality_B, weight_B) + 2 * correlation_loss(predicted_B, quality_B, weight_B)


def margins(logits_BK: Tensor) -> Tensor:
    """(B,) logit of the quality: by how much the logit of the good class phrase is above that of the other one."""
    return (logits_BK[:, 0] - logits_BK[:, 1]).float()


def _mean(values_B: Tensor, weight_B: Tensor | None) -> Tensor:
    return values_B.mean() if weight_B is None else (weight_B * values_B).sum() / weight_B.sum()


def semantic_loss(scene_logits_BS: Tensor, teacher_logits_BS: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher ‖ student) of the scene predictions at `temperature`, times its square, mean over images.

    Zero, with a zero gradient, where both agree.
    """
    student = F.log_softmax(scene_logits_BS.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits_BS.float() / temperature, dim=-1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2

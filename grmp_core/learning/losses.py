"""Losses of the method, and one more. Shapes: B images, K class phrases, S scenes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def quality_loss(logits_BK: Tensor, quality_B: Tensor) -> Tensor:
    """Mean cross-entropy against the soft label (quality, 1 − quality); the first class phrase is the good one.

    The published code has the same loss as a binary cross-entropy on softmax(logits)[0].

    Args:
        logits_BK: K = 2 logits an image.
        quality_B: in [0, 1].
    """
    log_probability_BK = F.log_softmax(logits_BK.float(), dim=-1)
    return -(quality_B * log_probability_BK[:, 0] + (1 - quality_B) * log_probability_BK[:, 1]).mean()


def correlation_loss(predicted_B: Tensor, quality_B: Tensor) -> Tensor:
    """(1 - Pearson's correlation) / 2, in [0, 1]: blind to the scale of both. 0, with a zero gradient, for fewer than
    three images.

    Not in the published code. Mean cross-entropy of a few labels is mostly about their mean, which no rank shows.
    """
    if len(quality_B) < 3:
        return predicted_B.sum() * 0
    return (1 - F.cosine_similarity(predicted_B - predicted_B.mean(), quality_B - quality_B.mean(), dim=0)) / 2


def adaptation_loss(logits_BK: Tensor, quality_B: Tensor, correlation_weight: float = 0.0) -> Tensor:
    """`quality_loss` + correlation_weight x `correlation_loss` of the predicted qualities."""
    loss = quality_loss(logits_BK, quality_B)
    if correlation_weight == 0:
        return loss
    predicted_B = torch.softmax(logits_BK.float(), dim=-1)[:, 0]
    return loss + correlation_weight * correlation_loss(predicted_B, quality_B)


def semantic_loss(scene_logits_BS: Tensor, teacher_logits_BS: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher ‖ student) of the scene predictions at `temperature`, times its square, mean over images.

    Zero, with a zero gradient, where both agree.
    """
    student = F.log_softmax(scene_logits_BS.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits_BS.float() / temperature, dim=-1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2

"""Losses by which a student learns from a teacher's scores and from a few labels. Shapes: B images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.learning.rank_losses import RANK_TEMPERATURE


def imitation_loss(predicted_B: Tensor, teacher_B: Tensor, variance: float) -> Tensor:
    """Regression and ranking to the teacher: the mean squared error in units of `variance`, and `pair_loss`.

    variance: of the teacher's scores over all images, so that 1 is the error of whoever always says their mean.
    """
    return F.mse_loss(predicted_B, teacher_B) / variance + pair_loss(predicted_B, teacher_B)


def pair_loss(predicted_B: Tensor, target_B: Tensor, temperature: float = RANK_TEMPERATURE) -> Tensor:
    """Mean over all pairs of KL(target ‖ predicted) of which image is better, 0 where all differences agree.

    The probability that image i is better than j is that of Bradley and Terry (1952), sigmoid of the difference of
    their qualities over `temperature`. Blind to the mean of the scores. 0, with a zero gradient, for a single image.
    """
    if len(predicted_B) < 2:
        return predicted_B.sum() * 0
    i, j = torch.triu_indices(len(predicted_B), len(predicted_B), offset=1, device=predicted_B.device)
    predicted_P = (predicted_B[i] - predicted_B[j]) / temperature
    target_P = (target_B[i] - target_B[j]) / temperature
    better_P = torch.sigmoid(target_P)
    cross_entropy = F.binary_cross_entropy_with_logits(predicted_P, better_P)
    return cross_entropy - F.binary_cross_entropy_with_logits(target_P, better_P)

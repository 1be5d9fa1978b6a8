"""Losses over pairs of images, blind to the scale of scores: only which image is better counts.

The probability that image i is better than j follows Thurstone's model with a variance of 1 a score (case V): a normal
distribution function of the difference of their scores over the root of 2. Two probabilities are compared by the
fidelity loss (Tsai et al. 2007), as in UNIQUE and continual BIQA (Zhang et al. 2021, 2022).

Shapes: B images, P pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOOR = 1e-8
"""Keeps the gradient of a square root finite at 0."""


def pair_ranking_loss(score_B: Tensor, quality_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """Mean fidelity loss of all pairs against their order by label; equal labels are a tie with probability 1/2.

    0, with a zero gradient, for fewer than two images.

    Args:
        score_B: of any scale, such as the difference of the quality logits.
        quality_B: labels, of any scale.
        weight_B: how much an image counts, above 0; a pair counts by their product. Null: all alike.
    """
    i, j = _pairs(len(score_B))
    better_P = (1 + torch.sign(quality_B[i] - quality_B[j])) / 2
    weight_P = None if weight_B is None else weight_B[i] * weight_B[j]
    return _fidelity_loss(better_probability(score_B), better_P.to(score_B.dtype), weight_P, score_B)


def pair_distillation_loss(score_B: Tensor, before_B: Tensor) -> Tensor:
    """Mean fidelity loss of all pairs against the probabilities of another model's scores `before_B`.

    0, with a zero gradient, where the differences of all scores agree, and for fewer than two images.
    """
    return _fidelity_loss(better_probability(score_B), better_probability(before_B.detach()), None, score_B)


def better_probability(score_B: Tensor) -> Tensor:
    """(P,) probability that the first image of each pair i < j is the better one."""
    i, j = _pairs(len(score_B))
    return torch.special.ndtr((score_B[i] - score_B[j]) / math.sqrt(2))


def _pairs(count: int) -> tuple[Tensor, Tensor]:
    i, j = torch.triu_indices(count, count, offset=1)
    return i, j


def _fidelity_loss(predicted_P: Tensor, target_P: Tensor, weight_P: Tensor | None, score_B: Tensor) -> Tensor:
    if len(predicted_P) == 0:
        return score_B.sum() * 0
    alike_P = (predicted_P * target_P + _FLOOR).sqrt() + ((1 - predicted_P) * (1 - target_P) + _FLOOR).sqrt()
    loss_P = 1 - alike_P
    return loss_P.mean() if weight_P is None else (weight_P * loss_P).sum() / weight_P.sum()

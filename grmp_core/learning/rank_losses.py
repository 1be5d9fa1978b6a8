"""Losses about order: a differentiable rank correlation, and triplets of one reference at rising severity.

Options of pre-training (`meta.loss`) and of the backbone's training. Shapes: B images, E embedding, T triplets.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.learning.losses import quality_loss
from grmp_core.learning.settings import MetaLoss
from grmp_core.tasks.distortion_tasks import LEVELS

RANK_TEMPERATURE = 0.05
"""Difference of two qualities at which the better one counts 73 % towards its rank."""


def meta_loss(logits_BK: Tensor, quality_B: Tensor, kind: MetaLoss = "cross_entropy") -> Tensor:
    """`quality_loss`, `msrcc_loss`, or `triplet_loss` of a batch in which every `len(LEVELS)` rows are one reference at
    rising severity, as `episode_plan` draws them for it; the last reference may lack its most severe rows.

    Args:
        logits_BK: K = 2 logits per image; the first class phrase is the good one.
        quality_B: in [0, 1].
    """
    if kind == "cross_entropy":
        return quality_loss(logits_BK, quality_B)
    predicted_B = torch.softmax(logits_BK.float(), dim=-1)[:, 0]
    if kind == "msrcc":
        return msrcc_loss(predicted_B, quality_B)
    return triplet_loss(predicted_B, quality_B, runs_of_levels(len(quality_B)))


def soft_ranks(values_B: Tensor, temperature: float = RANK_TEMPERATURE) -> Tensor:
    """Ranks 1..B, smallest first, with a logistic step in the place of every comparison; (B,).

    Those of SciPy's `rankdata` where all values are many temperatures apart, and for ties at any temperature.
    """
    steps_BB = torch.sigmoid((values_B[:, None] - values_B[None]) / temperature)
    return 0.5 + steps_BB.sum(dim=1)


def soft_srcc(predicted_B: Tensor, quality_B: Tensor, temperature: float = RANK_TEMPERATURE) -> Tensor:
    """Pearson's correlation of the soft ranks of `predicted_B` with the ranks of `quality_B`, in [-1, 1].

    0, with a zero gradient, where all qualities are the same.
    """
    ranks_B = 0.5 + 0.5 * (torch.sign(quality_B[:, None] - quality_B[None]) + 1).sum(dim=1)
    a, b = soft_ranks(predicted_B, temperature), ranks_B.to(predicted_B.dtype)
    a, b = a - a.mean(), b - b.mean()
    floor = 1e-6 * len(a)  # keeps the gradient finite where all predictions are the same
    return (a * b).sum() / ((a.square().sum() + floor) * (b.square().sum() + floor)).sqrt()


def msrcc_loss(predicted_B: Tensor, quality_B: Tensor) -> Tensor:
    """Half the mean squared error and half of 1 - `soft_srcc`; the weights are those of MetaQAP."""
    return 0.5 * F.mse_loss(predicted_B, quality_B) + 0.5 * (1 - soft_srcc(predicted_B, quality_B))


def runs_of_levels(rows: int) -> Tensor:
    """(T, 3) places of all triplets, mildest first, among `rows` rows of which every `len(LEVELS)` are a reference."""
    starts = range(0, rows, len(LEVELS))
    triplets = [t for s in starts for t in itertools.combinations(range(s, min(s + len(LEVELS), rows)), 3)]
    return torch.tensor(triplets, dtype=torch.long).reshape(-1, 3)


def triplet_loss(predicted_B: Tensor, quality_B: Tensor, triplets_T3: Tensor) -> Tensor:
    """Mean over triplets of what two neighbours lack of the distance of their labels.

    Of a triplet (mild, middle, severe): max(0, (q_mild - q_middle) - (p_mild - p_middle)), and the same of middle and
    severe. 0, with a zero gradient, where every triplet is in order with that margin, and without a triplet. TRIQA
    (2025) compares distances of features, as `feature_triplet_loss` does; a text prompt moves no image feature, so here
    the distances are those of the predicted qualities, with their sign.
    """
    if len(triplets_T3) == 0:
        return predicted_B.sum() * 0
    triplets_T3 = triplets_T3.to(predicted_B.device)
    margins_T2 = -quality_B[triplets_T3].diff(dim=1)
    distances_T2 = -predicted_B[triplets_T3].diff(dim=1)
    return (margins_T2 - distances_T2).clamp(min=0).sum(dim=1).mean()


def feature_triplet_loss(features_BE: Tensor, quality_B: Tensor, triplets_T3: Tensor) -> Tensor:
    """Mean over triplets (mild, middle, severe) of max(0, d(mild, middle) - d(mild, severe) + q_middle - q_severe).

    d is 1 - cosine; a label difference below 0 counts as 0. 0, with a zero gradient, in order with that margin, and
    without a triplet. After TRIQA (2025), whose margin is constant.

    Args:
        features_BE: rows of length one.
    """
    if len(triplets_T3) == 0:
        return features_BE.sum() * 0
    mild_TE, middle_TE, severe_TE = features_BE[triplets_T3].unbind(dim=1)
    middle_T, severe_T = quality_B[triplets_T3[:, 1:]].unbind(dim=1)
    nearer_T = (mild_TE * middle_TE).sum(dim=1) - (mild_TE * severe_TE).sum(dim=1)
    return ((middle_T - severe_T).clamp(min=0) - nearer_T).clamp(min=0).mean()

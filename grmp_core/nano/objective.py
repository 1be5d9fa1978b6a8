"""Objective of grmp-nano's training: every image against all sentences of a family, with soft targets.

Families are few and known, so that this is exact where in-batch contrast (CLIP, Radford et al. 2021) would meet a
sentence by chance, and targets may lie between sentences: quality .7 is between "good" and "fair".

Shapes: B images, K sentences of a family, P antonym pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.learning.losses import correlation_loss
from grmp_core.nano.captions import grade_targets
from grmp_core.nano.crops import Batch
from grmp_core.nano.sentences import Sentences

WEIGHTS: Mapping[str, float] = {
    "pairs": 1.5,
    "learned": 0.5,
    "ranking": 1.0,
    "correlation": 0.5,
    "grades": 0.5,
    "fidelity": 0.5,
    "fidelity_ranking": 0.3,
    "types": 0.8,
    "severities": 0.3,
    "classes": 1.0,
    "scenes": 0.3,
}
RANKING_GAP = 0.05
"""Difference of quality that makes an order of two images 73 % certain."""
RANKING_SHARPNESS = 4.0
"""Factor of logit differences in the ranking: a pair's logit rises by about 4.8 a unit of quality where most photos
are, the ranking asks for 1 / RANKING_GAP = 20 a unit; so both want the same logits."""


def soft_caption_loss(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Cross-entropy against weights over a family's sentences, mean over the rows that have any; 0 if none has."""
    known_B = targets_BK.sum(dim=-1)
    per_image_B = -(targets_BK * F.log_softmax(logits_BK, dim=-1)).sum(dim=-1)
    return per_image_B.sum() / known_B.sum().clamp(min=1e-6)


def pair_loss(logits_BPC: Tensor, quality_B: Tensor) -> Tensor:
    """Cross-entropy of (good, bad) logits (B, P, 2) against (quality, 1 - quality); NaN is left out, 0 if all are.

    The entropy of the target is taken off, so that 0 is the least.
    """
    known_B = ~quality_B.isnan()
    if not bool(known_B.any()):
        return logits_BPC.sum() * 0
    margin_BP = (logits_BPC[..., 0] - logits_BPC[..., 1])[known_B]
    target_BP = quality_B[known_B, None].expand_as(margin_BP)
    entropy = F.binary_cross_entropy(target_BP, target_BP)
    return F.binary_cross_entropy_with_logits(margin_BP, target_BP) - entropy


def ranking_loss(margins_B: Tensor, quality_B: Tensor) -> Tensor:
    """Pairwise logistic loss (RankNet, Burges et al. 2005) with soft targets over all pairs of known quality.

    The target probability that image i is the better one is sigmoid((quality_i - quality_j) / RANKING_GAP).
    """
    known_B = ~quality_B.isnan()
    if int(known_B.sum()) < 2:
        return margins_B.sum() * 0
    margins_B, quality_B = margins_B[known_B], quality_B[known_B]
    certainty_BB = torch.sigmoid((quality_B[:, None] - quality_B[None]) / RANKING_GAP)
    difference_BB = RANKING_SHARPNESS * (margins_B[:, None] - margins_B[None])
    i, j = torch.triu_indices(len(margins_B), len(margins_B), offset=1)
    return F.binary_cross_entropy_with_logits(difference_BB[i, j], certainty_BB[i, j])


def family_losses(logits_BK: Tensor, batch: Batch, sentences: Sentences) -> dict[str, Tensor]:
    """All losses of a step, unweighted, by name."""
    of = {name: logits_BK[:, place] for name, place in sentences.places.items()}
    pairs_BPC, fidelity_BPC = of["pairs"].unflatten(1, (-1, 2)), of["fidelity"].unflatten(1, (-1, 2))
    learned_BPC = of["learned"].unflatten(1, (-1, 2))
    quality_B, fidelity_B = batch.quality_B, batch.fidelity_B
    margin_B, fidelity_margin_B = _margin(pairs_BPC[:, 0]), _margin(fidelity_BPC[:, 0])
    rated_B = torch.where(batch.is_rated_B, quality_B, torch.nan)
    grades_BK = torch.from_numpy(grade_targets(quality_B.nan_to_num().cpu().numpy())).to(logits_BK.device)
    classes_BC = batch.classes_BC[:, torch.from_numpy(sentences.classes).to(logits_BK.device)]
    return {
        "pairs": pair_loss(pairs_BPC, quality_B),
        "learned": pair_loss(learned_BPC, quality_B),
        "ranking": (ranking_loss(margin_B, rated_B) + ranking_loss(_margin(learned_BPC[:, 0]), rated_B)) / 2,
        "correlation": correlation_loss(margin_B[batch.is_rated_B].sigmoid(), quality_B[batch.is_rated_B]),
        "grades": soft_caption_loss(of["grades"], grades_BK * ~quality_B.isnan()[:, None]),
        "fidelity": pair_loss(fidelity_BPC, fidelity_B),
        "fidelity_ranking": ranking_loss(fidelity_margin_B, fidelity_B),
        "types": soft_caption_loss(of["types"], batch.types_BT),
        "severities": soft_caption_loss(of["severities"], batch.severities_BK),
        "classes": soft_caption_loss(of["classes"], classes_BC / classes_BC.sum(dim=1, keepdim=True).clamp(min=1e-6)),
        "scenes": soft_caption_loss(of["scenes"], batch.scenes_BS),
    }


def _margin(logits_BC: Tensor) -> Tensor:
    return logits_BC[:, 0] - logits_BC[:, 1]

"""Quality-aware gradient regularization (QGR): take out of the quality gradient what points along the semantic one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from grmp_core.learning.settings import QgrConfig

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class QgrReport:
    """Record of one regularization."""

    angle_deg: float
    """Angle between the two gradients over all parameters, 0..180; NaN when one of them is zero."""
    projected_share: float
    """Share of the tensors (or 0/1 with scope `global`) whose gradient was changed."""


def regularize(
    quality_gradients: Mapping[str, Tensor], semantic_gradients: Mapping[str, Tensor], config: QgrConfig
) -> tuple[Gradients, QgrReport]:
    """g ← g − lambda · ⟨g, g_s⟩ / ‖g_s‖² · g_s wherever ⟨g, g_s⟩ > 0; unchanged elsewhere.

    With the rule `conflict` wherever ⟨g, g_s⟩ < 0, as in ProGrad (Zhu et al. 2023): lambda 1 leaves nothing that points
    against g_s. A zero g_s changes nothing. Inner products are accumulated in float64. Source: paper, eq. of QGR;
    finetune.py of the published code (which pairs the two gradient lists by position and so stops on torch 2, where an
    entry can be None; here they are paired by name).

    Args:
        quality_gradients, semantic_gradients: the same names, tensors of the same shapes.
    """
    if quality_gradients.keys() != semantic_gradients.keys():
        raise ValueError("both gradients must hold the same parameters")
    names = list(quality_gradients)
    products = torch.stack(
        [
            torch.stack([_dot(quality_gradients[n], semantic_gradients[n]) for n in names]),
            torch.stack([_dot(semantic_gradients[n], semantic_gradients[n]) for n in names]),
            torch.stack([_dot(quality_gradients[n], quality_gradients[n]) for n in names]),
        ]
    ).cpu()  # one transfer for all scalars
    shared, semantic_square = products[0], products[1]
    total_shared, total_semantic, total_quality = (float(row.sum()) for row in products)
    if config.scope == "global":
        shared = torch.full_like(shared, total_shared)
        semantic_square = torch.full_like(semantic_square, total_semantic)
    of_rule = shared > 0 if config.rule == "agreement" else shared < 0
    projected = of_rule & (semantic_square > 0) & (config.strength > 0)
    coefficients = torch.where(projected, config.strength * shared / semantic_square.clamp_min(1e-300), 0.0)
    regularized = {
        name: torch.sub(quality_gradients[name], semantic_gradients[name], alpha=float(coefficient))
        if hit
        else quality_gradients[name]
        for name, coefficient, hit in zip(names, coefficients, projected.tolist(), strict=True)
    }
    norm = math.sqrt(total_semantic * total_quality)
    angle = math.degrees(math.acos(max(-1.0, min(1.0, total_shared / norm)))) if norm > 0 else math.nan
    return regularized, QgrReport(angle, float(projected.double().mean()) if names else 0.0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).sum()

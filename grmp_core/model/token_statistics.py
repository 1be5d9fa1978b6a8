"""Statistics of a view's tokens, by which images are told that are unlike those a model knows.

Shapes: B views, N tokens, D their width, E that of pooled ones, F = D + E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grmp_core.model.vision_tower import VisionTower


@torch.no_grad()
def token_statistics(tower: VisionTower, tokens_BND: Tensor, *, deep: bool) -> Tensor:
    """-> (B, F) float32: the mean of the tokens before the first block, and more of them behind it.

    Args:
        tower: with its own weights, before anything has adapted them; no prompts take part.
        tokens_BND: before block 0.
        deep: more is what is pooled after the last block, at the cost of its blocks; else the standard deviation over
            the tokens, at no cost.
    """
    if tokens_BND.dim() == 2:  # of a tower in one piece
        tokens_BND = tokens_BND[:, None]
        deep = False
    wide_BND = tokens_BND.float()
    more = tower.pool(tower.run(tokens_BND, None, 0)).float() if deep else wide_BND.std(dim=1, correction=0)
    return torch.cat([wide_BND.mean(dim=1), more], dim=1)

"""A gate that weighs models by how near an image lies to the images that each has learned from.

Every set leaves centres, found by K-means over frozen features of its images; a model weighs more the nearer its
nearest centre is (the K-means gating of Zhang et al., continual BIQA, 2022, and TSN-IQA, 2024). Centres are means of
many images: no image of a set is kept.

Shapes: B images, F statistics of an image's tokens, E features of the gate, K centres, M models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PREFIX = "gate."
_CENTRES, _OWNER, _LAYOUT = f"{PREFIX}centres_KE", f"{PREFIX}owner_K", f"{PREFIX}layout_3"


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """Centres of all models of an ensemble."""

    centres_KE: Tensor
    """float32, rows near length one."""
    owner_K: Tensor
    """Model that each centre belongs to, int64, 0 to M - 1."""
    sharpness: float
    """Weights are a softmax of minus this times the distance; 0: all models weigh alike."""
    early_size: int
    """Statistics, from the first on, that are of tokens before the first block; the gate reads the others."""
    deep: bool
    """Whether the others are of pooled tokens after the last block, as `token_statistics` has it."""

    def features(self, statistics_BF: Tensor) -> Tensor:
        """(B, E) rows of length one."""
        return gate_features(statistics_BF, self.early_size)

    def weights(self, statistics_BF: Tensor) -> Tensor:
        """(B, M) float64, rows add up to one; of images' statistics, mean over their views."""
        features_BE = self.features(statistics_BF).cpu().double()
        distance_BK = torch.cdist(features_BE, self.centres_KE.double(), compute_mode="donot_use_mm_for_euclid_dist")
        models = int(self.owner_K.max()) + 1
        nearest = [distance_BK[:, self.owner_K == m].min(dim=1).values for m in range(models)]
        return torch.softmax(-self.sharpness * torch.stack(nearest, dim=1), dim=1)

    def extended(self, centres_KE: Tensor) -> Gate:
        """With the centres of one model more."""
        new_K = torch.full((len(centres_KE),), int(self.owner_K.max()) + 1)
        return Gate(
            centres_KE=torch.cat([self.centres_KE, centres_KE]),
            owner_K=torch.cat([self.owner_K, new_K]),
            sharpness=self.sharpness,
            early_size=self.early_size,
            deep=self.deep,
        )

    def to_parameters(self) -> dict[str, Tensor]:
        """Tensors by name, as a bundle holds them."""
        layout_3 = torch.tensor([self.sharpness, self.early_size, int(self.deep)], dtype=torch.float64)
        return {_CENTRES: self.centres_KE, _OWNER: self.owner_K, _LAYOUT: layout_3}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> Gate | None:
        """The inverse of `to_parameters`, of a dict that may hold more; null where there is no gate."""
        if _CENTRES not in parameters:
            return None
        sharpness, early_size, deep = parameters[_LAYOUT].tolist()
        return cls(
            centres_KE=parameters[_CENTRES].cpu(),
            owner_K=parameters[_OWNER].cpu(),
            sharpness=sharpness,
            early_size=int(early_size),
            deep=bool(deep),
        )


def gate_features(statistics_BF: Tensor, early_size: int) -> Tensor:
    """(B, F) token statistics -> (B, E) float32, those behind the first `early_size`, scaled to length one."""
    return F.normalize(statistics_BF[:, early_size:].float(), dim=-1)

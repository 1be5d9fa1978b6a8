"""Heads: other ways than the tower's own pooling from the tokens of the image tower to the class phrases.

A head makes votes: features of the tower's width. Each is projected and compared with the class phrases as the pooled
feature is without a head, and the logits of all votes are averaged.

Shapes: B images, N tokens, P patch tokens, D width, Q queries, V votes, S noise steps, H hidden width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.settings import HeadConfig
from grmp_core.model.vision_tower import VisionTower

_QUERY_STD = 0.5
_DENOISING_WEIGHT = 0.1
"""Of the squared error of the noise, beside the loss of the quality."""


def make_head(config: HeadConfig, tower: VisionTower, generator: torch.Generator) -> AttentionPanel | Denoiser | None:
    """Null for the plain head. InputError for a tower without patch tokens."""
    if config.kind == "plain":
        return None
    if config.kind == "denoise" and tower.pooled_width:
        return Denoiser(config.steps, tower.pooled_width, generator)
    if config.kind == "denoise" or not tower.has_patch_tokens:
        raise InputError(
            f"adapt.head {config.kind} does not fit this image tower; set it to plain, or choose a ViT backbone that "
            "pools by its class token or by the mean of its tokens"
        )
    return AttentionPanel(config.queries, tower.width, generator)


class AttentionPanel(nn.Module):
    """Q learned queries, each of which attends over the patch tokens and casts a vote (after DEIQT, Qin et al. 2023).

    There a decoder layer and a regressor follow; here every vote is read by the class phrases, so that the panel begins
    near the backbone's own score. The first query is zero at first, which is the mean of the patch tokens.
    """

    def __init__(self, queries: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        queries_QD = torch.empty(queries, width).normal_(std=_QUERY_STD, generator=generator)
        queries_QD[0] = 0
        self.queries_QD = nn.Parameter(queries_QD)
        self.key_DD = nn.Parameter(torch.eye(width))
        self.value_DD = nn.Parameter(torch.eye(width))

    def forward(self, tower: VisionTower, tokens_BND: Tensor, noise_seed: int | None) -> tuple[Tensor, Tensor | None]:
        """Tokens after the last block -> votes (B, Q, D), and no loss."""
        patches_BPD = tower.patch_tokens(tokens_BND)
        scores_BQP = self.queries_QD @ (patches_BPD @ self.key_DD.T).transpose(1, 2) / math.sqrt(len(self.key_DD))
        pooled_BQD = scores_BQP.softmax(dim=-1) @ (patches_BPD @ self.value_DD.T)
        return tower.after_pooling(pooled_BQD), None


class Denoiser(nn.Module):
    """Noise is added to the pooled features at S levels, a small network takes it away (after feature denoising by
    diffusion, PFD-IQA, Li et al. 2024), and the cleaned features vote beside the plain one.

    The network predicts the noise, zero at first. In learning the noise is drawn anew for every image and step; in
    scoring it is the same for all images, and comes with both signs, so that what is not taken away cancels. Noise is
    in units of a feature's root mean square; its share of the variance rises to 1/4.
    """

    noise_SD: Tensor
    keep_S: Tensor

    def __init__(self, steps: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = max(1, width // 2)
        first_HD = torch.empty(hidden, width).normal_(std=width**-0.5, generator=generator)
        self.first_HD = nn.Parameter(first_HD)
        self.level_SH = nn.Parameter(torch.zeros(steps, hidden))
        self.second_DH = nn.Parameter(torch.zeros(width, hidden))
        noise_SD = torch.randn(steps, width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise_SD", noise_SD, persistent=False)
        angle_S = torch.arange(1, steps + 1) / max(1, steps) * math.pi / 6
        self.register_buffer("keep_S", angle_S.cos().square(), persistent=False)
        """Share of the feature in the variance of each level."""

    def forward(self, tower: VisionTower, tokens_BND: Tensor, noise_seed: int | None) -> tuple[Tensor, Tensor | None]:
        """Tokens after the last block -> votes (B, V, D), and in learning the loss of the denoising.

        Args:
            noise_seed: of the noise in learning; null in scoring.
        """
        pooled_BD = tower.pool(tokens_BND)
        if not len(self.keep_S):
            return pooled_BD[:, None], None
        if noise_seed is None:
            noise_BVD = (
                torch.cat([self.noise_SD, -self.noise_SD]).expand(pooled_BD.shape[0], -1, -1).to(pooled_BD.dtype)
            )
        else:
            shape = (len(pooled_BD), *self.noise_SD.shape)
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(noise_seed))
            noise_BVD = noise.to(pooled_BD)
        cleaned_BVD, error = self._clean(pooled_BD, noise_BVD)
        votes_BVD = torch.cat([pooled_BD[:, None], cleaned_BVD], dim=1)
        return votes_BVD, None if noise_seed is None else _DENOISING_WEIGHT * error

    def _clean(self, pooled_BD: Tensor, noise_BVD: Tensor) -> tuple[Tensor, Tensor]:
        """-> the features with noise added and the predicted noise taken away; the prediction's mean squared error."""
        levels = torch.arange(noise_BVD.shape[1], device=pooled_BD.device) % len(self.keep_S)
        keep_V1 = self.keep_S[levels, None].to(pooled_BD.dtype)
        size_B11 = pooled_BD.square().mean(dim=-1).sqrt()[:, None, None]
        noisy_BVD = keep_V1.sqrt() * pooled_BD[:, None] + (1 - keep_V1).sqrt() * size_B11 * noise_BVD
        hidden_BVH = F.gelu(noisy_BVD / size_B11.clamp(min=1e-6) @ self.first_HD.T + self.level_SH[levels])
        predicted_BVD = hidden_BVH @ self.second_DH.T
        cleaned_BVD = (noisy_BVD - (1 - keep_V1).sqrt() * size_B11 * predicted_BVD) / keep_V1.sqrt()
        return cleaned_BVD, (predicted_BVD - noise_BVD).float().square().mean()

"""Features of images as a linear probe reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.model.backbone import Backbone
from grmp_core.model.vision_tower import open_vision_tower


def normalize(images_BHWC: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W), channels last, by per-channel mean and std of pixel values in [0, 1].

    Whole rows of pixels at once: three channels by themselves are too few for a processor's vector units.
    """
    _, height, width, channels = images_BHWC.shape
    scale, shift = 1 / (255 * std.float()), -mean.float() / std.float()
    scale, shift = (of_channel.view(channels).repeat(width) for of_channel in (scale, shift))
    rows = torch.addcmul(shift, images_BHWC.reshape(-1, height, width * channels).float(), scale)
    return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ImageFeatures:
    """Features of N crops by the image tower."""

    pooled_ND: np.ndarray
    """Pooled tokens of the tower (their mean, or the class token), before the projection."""
    unit_NE: Tensor
    """Projected and scaled to length one."""
    batch_sizes: tuple[int, ...]
    """Crops of every batch that came in; they add up to N."""

    def batch_means(self, values: np.ndarray) -> np.ndarray:
        """Mean of (N, ...) values over every batch, such as the views of a picture; -> (batches, ...)."""
        ends = np.cumsum(self.batch_sizes)[:-1]
        return np.stack([part.mean(axis=0) for part in np.split(values, ends)])


@torch.inference_mode()
def image_features(backbone: Backbone, batches: Iterable[np.ndarray]) -> ImageFeatures:
    """Features of uint8 crops, given as batches (B, size, size, 3), in the type of the backbone's weights."""
    tower = open_vision_tower(backbone.clip)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    dtype = next(backbone.clip.parameters()).dtype
    pooled = []
    for crops in batches:
        tokens_BND = tower.run(tower.embed(normalize(torch.from_numpy(crops), mean, std).to(dtype)), None, 0)
        pooled.append(tower.pool(tokens_BND))
    pooled_ND = torch.cat(pooled)
    unit_NE = F.normalize(tower.project(pooled_ND).float(), dim=-1)
    return ImageFeatures(pooled_ND.float().numpy(), unit_NE, tuple(map(len, pooled)))

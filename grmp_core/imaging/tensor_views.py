"""The scoring views of `views`, cut from float tensors so that gradients reach the pixels.

Differences from the views of uint8 pictures: what is resized is not rounded to 8 bits.

Shapes: B images, H x W any size, G views, size = the model's input size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.imaging.views import ViewConfig, check_shape, official_side_px, positions, short_side_shape


def tensor_views(images_BCHW: Tensor, config: ViewConfig, size_px: int) -> Tensor:
    """Float images in [0, 1] -> (B, G, C, size, size), the views of `scoring_views`. ImageError for thin strips."""
    canvas = _canvas(images_BCHW, config, size_px)
    tops = positions(canvas.shape[2] - size_px, config.score_grid)
    lefts = positions(canvas.shape[3] - size_px, config.score_grid)
    views = [canvas[:, :, t : t + size_px, left : left + size_px] for t in tops for left in lefts]
    return torch.stack(views, dim=1)


def _canvas(images: Tensor, config: ViewConfig, size_px: int) -> Tensor:
    height, width = images.shape[2:]
    if config.mode == "official":
        side = official_side_px(size_px)
        return _bicubic(images, (side, side))
    short_side = min(height, width)
    if short_side == size_px or (config.mode == "crops" and short_side > size_px):
        return images
    check_shape((height, width), size_px)
    shape = short_side_shape((height, width), size_px)
    return _bicubic(images, shape) if short_side < size_px else _area(images, shape)


def _bicubic(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Keys' cubic with a = -.75, as OpenCV's, without a filter against aliasing; clipped, as 8-bit pixels are."""
    return F.interpolate(images, shape, mode="bicubic", align_corners=False).clamp(0, 1)


def _area(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Each new pixel is the mean of the rectangle that it covers, pixels at its border counted in part."""
    rows, columns = (_overlaps(old, new, images) for old, new in zip(images.shape[2:], shape, strict=True))
    return rows @ images @ columns.T


def _overlaps(old: int, new: int, like: Tensor) -> Tensor:
    """(new, old) shares of old pixels in the mean of each new one; old >= new."""
    edges = torch.arange(new + 1, dtype=torch.float64) * old / new
    starts = torch.arange(old, dtype=torch.float64)
    ends = torch.minimum(edges[1:, None], starts + 1)
    overlaps = (ends - torch.maximum(edges[:-1, None], starts)).clamp(min=0)
    return (overlaps * new / old).to(like)

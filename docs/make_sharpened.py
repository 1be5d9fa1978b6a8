"""Gradient ascent on quality: a blurred photo, changed by `as_loss()`; makes `docs/pictures/sharpened.jpg`.

Twice: over all pixels, and over the 13 numbers of a filter that is the same everywhere. The photo is scikit-learn's
flower.jpg (vultilion on Flickr, CC BY 2.0).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

import grmp_core

REGION = (slice(60, 360), slice(180, 480))
RADIUS_PX = 12
STEPS = 40
CAPTIONS = ("photo", "blurred", "pixels", "filter")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="JPEG file of the four pictures")
    options = parser.parse_args()
    torch.manual_seed(0)
    photo = load_sample_image("flower.jpg")[REGION]
    blurred = grmp_core.distort(photo, "gaussian_blur", level=3)
    start = as_tensor(blurred)
    quality = grmp_core.load()
    pictures = [as_tensor(photo), start, ascend_pixels(quality, start), ascend_filter(quality, start)]
    tiles = []
    for name, picture in zip(CAPTIONS, pictures, strict=True):
        with torch.no_grad():
            score = float(quality(picture))
        distance = "" if name == "photo" else f", {psnr(picture, pictures[0]):.1f} dB"
        print(f"{name:<8} quality {score:.3f}{distance}")
        tiles.append(captioned(picture, f"{name}: {score:.2f}{distance}"))
    Image.fromarray(np.hstack(tiles)).save(options.picture, quality=88)
    return 0


def ascend_pixels(quality: grmp_core.ImageQuality, start: Tensor) -> Tensor:
    """All pixels follow the gradient."""
    pixels = start.clone().requires_grad_()
    return descend([pixels], 0.004, quality, lambda: pixels)


def ascend_filter(quality: grmp_core.ImageQuality, start: Tensor) -> Tensor:
    """A filter follows the gradient: one weight for each distance from the centre, and all sum to one."""
    weights = torch.zeros(RADIUS_PX + 1, requires_grad=True)
    y, x = torch.meshgrid(*(2 * [torch.arange(-RADIUS_PX, RADIUS_PX + 1.0)]), indexing="ij")
    distance = (x * x + y * y).sqrt()

    def filtered() -> Tensor:
        shares = torch.stack([(1 - (distance - ring).abs()).clamp(min=0) for ring in range(RADIUS_PX + 1)])
        rings = shares / shares.sum(dim=(1, 2), keepdim=True)
        kernel = torch.zeros_like(distance)
        kernel[RADIUS_PX, RADIUS_PX] = 1
        kernel = kernel + ((weights - weights.mean())[:, None, None] * rings).sum(dim=0)
        padded = F.pad(start, [RADIUS_PX] * 4, mode="reflect")
        return F.conv2d(padded, kernel.expand(3, 1, -1, -1), groups=3)

    return descend([weights], 0.05, quality, filtered)


def descend(moved: list[Tensor], lr: float, quality: grmp_core.ImageQuality, picture: Callable[[], Tensor]) -> Tensor:
    """Adam on 1 - quality of the picture, clipped to what a file can hold; -> the last picture, 8 bits deep."""
    loss, optimizer = quality.as_loss(), torch.optim.Adam(moved, lr=lr)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(picture().clamp(0, 1)).backward()
        optimizer.step()
    return (picture().detach().clamp(0, 1) * 255).round() / 255


def as_tensor(image_HW3: np.ndarray) -> Tensor:
    return torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None].float() / 255


def psnr(picture: Tensor, original: Tensor) -> float:
    """Likeness to the photo in dB, higher is closer."""
    return float(-10 * (picture - original).square().mean().log10())


def captioned(picture: Tensor, text: str) -> np.ndarray:
    tile = (picture[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    tile = cv2.copyMakeBorder(tile, 26, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return cv2.putText(tile, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)


if __name__ == "__main__":
    sys.exit(main())

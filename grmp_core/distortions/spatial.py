"""Spatial damage: jitter, misplaced patches, pixelation, quantization, colour blocks."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.pixels import normal_table, uniform_codes
from grmp_core.distortions.registry import Distortion

PATCH_PX = 16
"""Side of a misplaced patch, and the span of its displacement."""
BLOCK_PX = 32
_JITTER_PASSES = 5
_SUBPIXEL_BITS = 5
"""cv2.remap's fixed-point maps hold 1/32 px."""


def jitter(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Five passes that each move every pixel by normal noise of `amount` px in both directions.

    One noise field serves all passes, each time rolled by a random offset.
    """
    height, width = image.shape[:2]
    table = normal_table(amount * (1 << _SUBPIXEL_BITS))
    moves = table.take(uniform_codes((height, width, 2), rng))
    whole = moves >> _SUBPIXEL_BITS
    part = (moves & ((1 << _SUBPIXEL_BITS) - 1)).astype(np.uint16)
    index = (part[..., 1] << _SUBPIXEL_BITS) + part[..., 0]
    base = np.empty((height, width, 2), np.int16)
    base[..., 0] = np.arange(width, dtype=np.int16)
    base[..., 1] = np.arange(height, dtype=np.int16)[:, None]
    for _ in range(_JITTER_PASSES):
        offset = (int(rng.integers(height)), int(rng.integers(width)))
        where = np.roll(whole, offset, axis=(0, 1))
        where += base
        image = cv2.remap(
            image, where, np.roll(index, offset, axis=(0, 1)), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return image


def non_eccentricity_patch(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Squares of 16 px copied up to 8 px away, one after the other."""
    height, width = image.shape[:2]
    patch_y, patch_x = min(PATCH_PX, height), min(PATCH_PX, width)
    result = image.copy()
    num_patches = round(count)
    tops = rng.integers(height - patch_y + 1, size=num_patches)
    lefts = rng.integers(width - patch_x + 1, size=num_patches)
    moves = rng.integers(-PATCH_PX // 2, PATCH_PX // 2 + 1, size=(num_patches, 2))
    to_tops = np.clip(tops + moves[:, 0], 0, height - patch_y)
    to_lefts = np.clip(lefts + moves[:, 1], 0, width - patch_x)
    for top, left, to_top, to_left in zip(tops, lefts, to_tops, to_lefts, strict=True):
        patch = result[top : top + patch_y, left : left + patch_x].copy()
        result[to_top : to_top + patch_y, to_left : to_left + patch_x] = patch
    return result


def pixelate(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Down to .95 − amount^.6 of the size and back, nearest neighbour both ways."""
    height, width = image.shape[:2]
    scale = 0.95 - amount**0.6
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_NEAREST), (width, height), interpolation=cv2.INTER_NEAREST
    )


def quantization(image: np.ndarray, num_values: float, rng: np.random.Generator) -> np.ndarray:
    """Equal-width bins a channel, as many as the nearest whole number; their values spread over 0..255."""
    bins = round(num_values)
    values = np.rint((np.arange(256) * bins // 256) * 255 / (bins - 1))
    return cv2.LUT(image, values.astype(np.uint8))


def colour_block(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    result = image.copy()
    for _ in range(round(count)):
        top = int(rng.integers(max(1, height - BLOCK_PX + 1)))
        left = int(rng.integers(max(1, width - BLOCK_PX + 1)))
        result[top : top + BLOCK_PX, left : left + BLOCK_PX] = rng.integers(256, size=3, dtype=np.uint8)
    return result


SPATIALS = (
    Distortion(
        name="jitter",
        group="spatial",
        kadid_id=19,
        tid_id=None,
        levels=(0.05, 0.1, 0.2, 0.5, 1),
        geometric=True,
        apply=jitter,
        description="every pixel is a little out of place, as through rough glass (parameter: px a pass)",
    ),
    Distortion(
        name="non_eccentricity_patch",
        group="spatial",
        kadid_id=20,
        tid_id=14,
        levels=(20, 40, 60, 80, 100),
        apply=non_eccentricity_patch,
        description="small squares copied to a place nearby (parameter: how many)",
    ),
    Distortion(
        name="pixelate",
        group="spatial",
        kadid_id=21,
        tid_id=None,
        levels=(0.01, 0.05, 0.1, 0.2, 0.5),
        apply=pixelate,
        description="visible square pixels, jagged edges (parameter: strength; .95 − strength^.6 of the size is left)",
    ),
    Distortion(
        name="quantization",
        group="spatial",
        kadid_id=22,
        tid_id=7,
        levels=(20, 16, 13, 10, 7),
        apply=quantization,
        description="smooth shades become steps (parameter: values a channel)",
    ),
    Distortion(
        name="colour_block",
        group="spatial",
        kadid_id=23,
        tid_id=None,
        levels=(2, 4, 6, 8, 10),
        apply=colour_block,
        description="squares of a random flat colour cover parts of the picture (parameter: how many)",
    ),
)

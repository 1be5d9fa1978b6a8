"""Spatial damage: jitter, misplaced patches, pixelation, quantization, colour blocks."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion

PATCH_PX = 16
BLOCK_PX = 32
JITTER_PX = 5.0
"""Standard deviation of a pixel's displacement at amount 1: at that strength KADID-10k's raters gave it 1.3 of 5."""


def jitter(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    noise = rng.standard_normal((2, height, width), dtype=np.float32)
    noise *= np.float32(JITTER_PX * amount)
    noise[0] += np.arange(width, dtype=np.float32)
    noise[1] += np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(image, noise[0], noise[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def non_eccentricity_patch(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    patch_y, patch_x = min(PATCH_PX, height), min(PATCH_PX, width)
    result = image.copy()
    tops = rng.integers(height - patch_y + 1, size=round(count))
    lefts = rng.integers(width - patch_x + 1, size=round(count))
    moves = rng.integers(-PATCH_PX // 2, PATCH_PX // 2 + 1, size=(round(count), 2))
    for top, left, (dy, dx) in zip(tops, lefts, moves, strict=True):
        to_y, to_x = np.clip(top + dy, 0, height - patch_y), np.clip(left + dx, 0, width - patch_x)
        result[to_y : to_y + patch_y, to_x : to_x + patch_x] = image[top : top + patch_y, left : left + patch_x]
    return result


def pixelate(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    scale = 0.95 - amount**0.6
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_NEAREST), (width, height), interpolation=cv2.INTER_NEAREST
    )


def quantization(image: np.ndarray, num_values: float, rng: np.random.Generator) -> np.ndarray:
    """`num_values` evenly spread values a channel."""
    steps = round(num_values) - 1
    return cv2.LUT(image, np.rint(np.rint(np.arange(256) * steps / 255) * 255 / steps).astype(np.uint8))


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
        description="every pixel is a little out of place, like seen through rough glass",
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
        description="visible square pixels, jagged edges",
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

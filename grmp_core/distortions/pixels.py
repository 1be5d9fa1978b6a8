"""Helpers of several families: rounding, integer noise, and work in strips.

Noise is made of whole grey values drawn from tables by integer random numbers, so that a seed gives the same bytes on
every machine; adding rounded noise to whole pixel values is the same as rounding the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np

STRIP_PX = 1 << 18
"""Pixels a strip of rows holds: bounds the float copies of a large photo."""
TILE_PX = 2048
"""Side of the tiles that what works on whole pictures in floats falls back to."""


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round (half to even) and clip float32 pixels on the 0..255 scale."""
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    zero: Any = 0.0  # OpenCV takes scalars, its stubs do not say so
    return cv2.add(flat, zero, dtype=cv2.CV_8U).reshape(image.shape)


def in_strips(image: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function that treats rows independently of each other, a strip of rows at a time, top first.

    The height of a strip depends on the picture's width alone.
    """
    rows = max(1, STRIP_PX // image.shape[1])
    if image.shape[0] <= rows:
        return function(image)
    result = np.empty_like(image)
    for top in range(0, image.shape[0], rows):
        result[top : top + rows] = function(image[top : top + rows])
    return result


def in_tiles(image: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function to tiles of TILE_PX, row by row: photos up to that size are one tile."""
    height, width = image.shape[:2]
    if max(height, width) <= TILE_PX:
        return function(image)
    result = np.empty_like(image)
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            tile = np.s_[top : top + TILE_PX, left : left + TILE_PX]
            result[tile] = function(np.ascontiguousarray(image[tile]))
    return result


def uniform_codes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Uniform random uint16, four from each 64-bit draw."""
    count = int(np.prod(shape))
    words = rng.integers(0, 2**64 - 1, -(-count // 4), dtype=np.uint64, endpoint=True)
    return words.astype("<u8", copy=False).view("<u2")[:count].reshape(shape)


@cache
def normal_quantiles() -> np.ndarray:
    """65,536 equally likely values of a standard normal variable, float64; variance exactly 1, largest about 4.3."""
    normal = NormalDist()
    upper = np.array([normal.inv_cdf((code + 0.5) / 65536) for code in range(32768, 65536)])
    values = np.concatenate([-upper[::-1], upper])
    return values / values.std()


def normal_table(sigma: float) -> np.ndarray:
    """uint16 code -> rounded normal noise of standard deviation `sigma`, int16."""
    return np.rint(normal_quantiles() * sigma).astype(np.int16)


def add_noise(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """uint8 image plus int16 noise of the same shape, clipped."""
    rows = image.shape[0]
    return cv2.add(image.reshape(rows, -1), noise.reshape(rows, -1), dtype=cv2.CV_8U).reshape(image.shape)


def split(image: np.ndarray) -> list[np.ndarray]:
    """The channels as contiguous (H, W) planes."""
    return [np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[2])]

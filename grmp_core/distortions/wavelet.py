"""The Cohen-Daubechies-Feauveau 9/7 wavelet, the one of lossy JPEG 2000, by lifting.

Plain NumPy arithmetic on purpose: one IEEE operation at a time gives the same bits on every machine, which fused
multiply-adds would not.

Shapes: H, W height and width, C interleaved channels, all float32. Subbands are scaled to unit norm of their basis
functions (the transform is orthonormal to within some per cent), so that one error counts the same in each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_STEPS = (-1.586134342, -0.05298011854, 0.8829110762, 0.4435068522)
"""Lifting steps of the 9/7 filter pair (Daubechies and Sweldens 1998)."""
_LOW_GAIN = 1.149604398
"""Scale of the low band that gives both bands unit norm; the high band takes its inverse."""
_COLUMN_FLOATS = 4096
"""Columns are lifted in stripes of this many values, so that a stripe stays in the cache."""


@dataclass
class Pyramid:
    """`low` is the coarsest band; `details[k]` the (row-low column-high, row-high column-low, high-high) bands of
    step k, finest first. Bands are stored transposed on every second step; nothing outside depends on it."""

    low: np.ndarray
    details: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    shapes: list[tuple[int, int]]

    def bands(self) -> list[np.ndarray]:
        """All bands, finest first, the low band last."""
        return [band for level in self.details for band in level] + [self.low]

    def flat(self) -> np.ndarray:
        """All coefficients in one new vector, in the order of `bands`."""
        return np.concatenate([band.reshape(-1) for band in self.bands()])

    def with_flat(self, coefficients: np.ndarray) -> Pyramid:
        """A pyramid of these shapes that holds the given coefficients (views of them)."""
        shapes = [band.shape for band in self.bands()]
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
        views = [coefficients[a:b].reshape(s) for a, b, s in zip(ends[:-1], ends[1:], shapes, strict=True)]
        details = [(views[i], views[i + 1], views[i + 2]) for i in range(0, len(views) - 1, 3)]
        return Pyramid(views[-1], details, self.shapes)


def decompose(image_HWC: np.ndarray, num_steps: int) -> Pyramid:
    """Forward transform; stops early at a single pixel."""
    low, details, shapes = image_HWC, [], []
    for _ in range(num_steps):
        if max(low.shape[:2]) < 2:
            break
        shapes.append((low.shape[0], low.shape[1]))
        top, bottom = _split(low)
        low_low, low_high = _split(_transpose(top))
        high_low, high_high = _split(_transpose(bottom))
        details.append((low_high, high_low, high_high))
        low = low_low
    return Pyramid(low, details, shapes)


def reconstruct(pyramid: Pyramid) -> np.ndarray:
    """Inverse of `decompose`."""
    low = pyramid.low
    for (low_high, high_low, high_high), (height, width) in zip(
        reversed(pyramid.details), reversed(pyramid.shapes), strict=True
    ):
        top = _transpose(_merge(low, low_high, width))
        bottom = _transpose(_merge(high_low, high_high, width))
        low = _merge(top, bottom, height)
    return low


def _transpose(image_HWC: np.ndarray) -> np.ndarray:
    height, width, channels = image_HWC.shape
    if height == 0 or width == 0:
        return np.zeros((width, height, channels), np.float32)
    return cv2.transpose(image_HWC).reshape(width, height, channels)


def _split(image_HWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high band along the rows' direction (vertical)."""
    even, odd = image_HWC[0::2].copy(), image_HWC[1::2].copy()
    for stripe_even, stripe_odd in _stripes(even, odd):
        _lift(stripe_odd, stripe_even, _STEPS[0], ahead=True)
        _lift(stripe_even, stripe_odd, _STEPS[1], ahead=False)
        _lift(stripe_odd, stripe_even, _STEPS[2], ahead=True)
        _lift(stripe_even, stripe_odd, _STEPS[3], ahead=False)
        stripe_even *= np.float32(_LOW_GAIN)
        stripe_odd *= np.float32(1 / _LOW_GAIN)
    return even, odd


def _merge(low: np.ndarray, high: np.ndarray, size: int) -> np.ndarray:
    result = np.empty((size, *low.shape[1:]), np.float32)
    even, odd = low.copy(), high.copy()
    for stripe_even, stripe_odd in _stripes(even, odd):
        stripe_even *= np.float32(1 / _LOW_GAIN)
        stripe_odd *= np.float32(_LOW_GAIN)
        _lift(stripe_even, stripe_odd, -_STEPS[3], ahead=False)
        _lift(stripe_odd, stripe_even, -_STEPS[2], ahead=True)
        _lift(stripe_even, stripe_odd, -_STEPS[1], ahead=False)
        _lift(stripe_odd, stripe_even, -_STEPS[0], ahead=True)
    result[0::2] = even
    result[1::2] = odd
    return result


def _stripes(even: np.ndarray, odd: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    if len(odd) == 0:
        return ()
    flat_even, flat_odd = even.reshape(len(even), -1), odd.reshape(len(odd), -1)
    starts = range(0, flat_even.shape[1], _COLUMN_FLOATS)
    return [(flat_even[:, s : s + _COLUMN_FLOATS], flat_odd[:, s : s + _COLUMN_FLOATS]) for s in starts]


def _lift(target: np.ndarray, source: np.ndarray, weight: float, *, ahead: bool) -> None:
    """target[i] += weight * (source[i] + source[i ± 1]), the picture mirrored at its edges."""
    count = len(target)
    total = np.empty_like(target, order="C")
    if ahead:  # odd sample i lies between even samples i and i + 1
        inner = min(count, len(source) - 1)
        np.add(source[:inner], source[1 : inner + 1], out=total[:inner])
        total[inner:] = 2 * source[inner:count]
    else:  # even sample i lies between odd samples i - 1 and i
        inner = min(count, len(source))
        np.add(source[: inner - 1], source[1:inner], out=total[1:inner])
        total[0] = 2 * source[0]
        total[inner:] = 2 * source[inner - 1]
    total *= np.float32(weight)
    target += total

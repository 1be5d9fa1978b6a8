"""Brightness: brighten, darken, mean shift."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.pixels import to_uint8
from grmp_core.distortions.registry import Distortion


def curve(mid: float) -> np.ndarray:
    """256 values of a parabola through (0, 0), (½, mid), (1, 1), clipped to 0..255."""
    x = np.arange(256) / 255
    return np.clip(np.rint(255 * (x + 4 * (mid - 0.5) * x * (1 - x))), 0, 255).astype(np.uint8)


def brighten(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Two thirds the curve on every channel, one third the same curve on the lightness of Lab."""
    table = curve(0.5 + 0.5 * amount)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    lab[..., 0] = cv2.LUT(np.ascontiguousarray(lab[..., 0]), table)
    by_lightness = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    return cv2.addWeighted(cv2.LUT(image, table), 2 / 3, by_lightness, 1 / 3, 0)


def darken(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.LUT(image, curve(0.5 - 0.5 * amount))


def mean_shift(image: np.ndarray, offset: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.LUT(image, to_uint8((np.arange(256) + 255 * offset).astype(np.float32)[:, None])[:, 0])


BRIGHTNESSES = (
    Distortion(
        name="brighten",
        group="brightness",
        kadid_id=16,
        tid_id=None,
        levels=(0.1, 0.2, 0.4, 0.7, 1.1),
        apply=brighten,
        description="mid tones rise until the lights burn out (parameter: twice the lift of the mid tone)",
    ),
    Distortion(
        name="darken",
        group="brightness",
        kadid_id=17,
        tid_id=None,
        levels=(0.05, 0.1, 0.2, 0.4, 0.8),
        apply=darken,
        description="mid tones fall until the shadows close (parameter: twice the drop of the mid tone)",
    ),
    Distortion(
        name="mean_shift",
        group="brightness",
        kadid_id=18,
        tid_id=16,
        levels=(0.15, 0.08, 0.0, -0.08, -0.15),
        apply=mean_shift,
        description="all values shift up or down; level 3 is the picture itself (parameter: offset on the 0..1 scale)",
    ),
)

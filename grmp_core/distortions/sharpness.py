"""Sharpness and contrast."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion, to_uint8


def sharpen(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Unsharp mask of the lightness with a 1 px Gaussian."""
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    luma = np.ascontiguousarray(ycc[..., 0]).astype(np.float32)
    blurred = cv2.GaussianBlur(luma, (5, 5), 1.0, borderType=cv2.BORDER_REFLECT)
    ycc[..., 0] = to_uint8(luma + amount * (luma - blurred))
    return cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)


def contrast(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A tone curve through (¼, ¼ − amount/4) and (¾, ¾ + amount/4): steeper for positive amounts, flatter else."""
    tones = np.interp(np.arange(256) / 255, [0, 0.25, 0.75, 1], [0, 0.25 - amount / 4, 0.75 + amount / 4, 1])
    return cv2.LUT(image, to_uint8(255 * tones))


SHARPNESSES = (
    Distortion(
        name="sharpen",
        group="sharpness_contrast",
        kadid_id=24,
        tid_id=None,
        levels=(1, 2, 3, 6, 12),
        apply=sharpen,
        description="overdone sharpening: halos and crawling grain (parameter: amount of the unsharp mask)",
    ),
    Distortion(
        name="contrast",
        group="sharpness_contrast",
        kadid_id=25,
        tid_id=17,
        levels=(0.3, 0.15, 0.0, -0.4, -0.6),
        apply=contrast,
        description="tones pulled apart or together; level 3 is the picture itself (parameter: bend of the tone curve)",
    ),
)

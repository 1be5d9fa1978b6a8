"""Sharpness and contrast."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion

_SHARPEN_SIGMA_PX = 3.0


def sharpen(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Unsharp mask of the lightness of Lab with a Gaussian of 3 px, cut at two sigmas."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    light = np.ascontiguousarray(lab[..., 0])
    blurred = cv2.GaussianBlur(light, (13, 13), _SHARPEN_SIGMA_PX, borderType=cv2.BORDER_REFLECT)
    lab[..., 0] = cv2.addWeighted(light, 1 + amount, blurred, -amount, 0)
    return cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)


def contrast_curve(amount: float) -> np.ndarray:
    """256 values of the cubic spline through (0, 0), (.3, .25 − amount/4), (.5, .5), (.7, .75 + amount/4), (1, 1)."""
    cubic = (0.2 - (0.25 + amount / 4)) / 0.042  # by symmetry the spline is one polynomial, odd about (.5, .5)
    offset = np.arange(256) / 255 - 0.5
    values = 0.5 + (1 - cubic / 4) * offset + cubic * offset**3
    return np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)


def contrast(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """An S-shaped tone curve on every channel.

    The knots lie at .3 and .7, so that amount 0 already steepens the mid tones a little and −0.2 is the identity; the
    human means agree: level 3 is rated 4.29, the identities of other types 4.6.
    """
    return cv2.LUT(image, contrast_curve(amount))


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
        description="tones pulled apart (levels 1 to 3, least at 3) or together (4 and 5) (parameter: bend of the "
        "tone curve)",
    ),
)

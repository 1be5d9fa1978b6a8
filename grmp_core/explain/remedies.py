"""Repairs by classic filters: how an image would look were a kind of damage undone, by estimate.

Scored again, a repaired image says by how much that damage lowers the score. It is an estimate: no filter brings back
what was lost, and each leaves traces of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from grmp_core.explain.measurements import noise_sigma

Repair = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB (H, W, 3) -> a repaired copy of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    name: str
    """The repair in words."""
    apply: Repair


def denoised(image_HW3: np.ndarray) -> np.ndarray:
    """Non-local means, as strong as the estimated noise (OpenCV)."""
    sigma = noise_sigma(image_HW3)
    return cv2.fastNlMeansDenoisingColored(image_HW3, None, sigma, sigma, 5, 15)


def sharpened(image_HW3: np.ndarray) -> np.ndarray:
    """Unsharp mask: half of what a blur of 1.5 px takes away is added twice."""
    blurred = cv2.GaussianBlur(image_HW3, (0, 0), 1.5)
    return cv2.addWeighted(image_HW3, 2.0, blurred, -1.0, 0)


def softened(image_HW3: np.ndarray) -> np.ndarray:
    """Bilateral filter, which levels small steps and keeps large ones."""
    return cv2.bilateralFilter(image_HW3, 5, 20, 3)


def exposed(image_HW3: np.ndarray) -> np.ndarray:
    """Gamma that brings the median grey level to 118, the middle grey of sRGB."""
    median = float(np.clip(np.median(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)), 1, 254))
    gamma = float(np.clip(np.log(118 / 255) / np.log(median / 255), 0.25, 4))
    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return np.asarray(cv2.LUT(image_HW3, table))


def stretched(image_HW3: np.ndarray) -> np.ndarray:
    """Grey levels between the 1st and the 99th percentile drawn over the whole range."""
    low, high = np.percentile(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY), (1, 99))
    scale = 255 / max(high - low, 1)
    return np.clip(np.round((image_HW3 - low) * scale), 0, 255).astype(np.uint8)


def balanced(image_HW3: np.ndarray) -> np.ndarray:
    """Channels scaled to one mean: the grey-world assumption."""
    means = image_HW3.reshape(-1, 3).mean(axis=0)
    return np.clip(np.round(image_HW3 * (means.mean() / np.maximum(means, 1))), 0, 255).astype(np.uint8)


REMEDIES: dict[str, Remedy] = {
    "blur": Remedy(name="sharpening", apply=sharpened),
    "noise": Remedy(name="denoising", apply=denoised),
    "compression": Remedy(name="smoothing of block edges", apply=softened),
    "brightness": Remedy(name="correcting the exposure", apply=exposed),
    "colour": Remedy(name="balancing the colours", apply=balanced),
    "sharpness_contrast": Remedy(name="stretching the contrast", apply=stretched),
}
"""By family of damage. Displaced pixels (`spatial`) cannot be put back."""

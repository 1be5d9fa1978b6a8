"""Measures of an image against its undamaged reference. None of them is learned.

Shapes: both images (H, W, 3) uint8 RGB of one size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from grmp_core.errors import InputError

_MIN_SIDE_PX = 11
IDENTICAL_PSNR_DB = 100.0
"""Stands for the infinite PSNR of equal images."""


@dataclass(frozen=True, kw_only=True)
class ReferenceMeasures:
    psnr_db: float
    """Peak signal-to-noise ratio over all channels, in dB; 100 for equal images."""
    ssim: float
    """Structural similarity of the grey images in [-1, 1], Gaussian window of 1.5 px (Wang et al. 2004)."""
    gmsd: float
    """Gradient magnitude similarity deviation of the grey images, 0 for equal ones (Xue et al. 2014)."""
    colour_difference: float
    """Mean CIEDE2000 of images shrunk to half size; 1 is just visible side by side."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def compare(image_HW3: np.ndarray, reference_HW3: np.ndarray) -> ReferenceMeasures:
    """InputError for images of different sizes, or smaller than 11 px a side."""
    if image_HW3.shape != reference_HW3.shape:
        (height, width), (other_height, other_width) = image_HW3.shape[:2], reference_HW3.shape[:2]
        raise InputError(
            f"the reference has {other_width}x{other_height} pixels and the image {width}x{height}; give the undamaged "
            "picture at the same size"
        )
    if min(image_HW3.shape[:2]) < _MIN_SIDE_PX:
        raise InputError(f"too small to compare with a reference: both sides must be {_MIN_SIDE_PX} px")
    grey, reference_grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (image_HW3, reference_HW3))
    is_equal = np.array_equal(image_HW3, reference_HW3)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return ReferenceMeasures(
        psnr_db=IDENTICAL_PSNR_DB if is_equal else float(peak_signal_noise_ratio(reference_HW3, image_HW3)),
        ssim=float(structural_similarity(reference_grey, grey, **options)),
        gmsd=_gmsd(grey, reference_grey),
        colour_difference=float(deltaE_ciede2000(_lab(reference_HW3), _lab(image_HW3)).mean()),
    )


def _lab(image_HW3: np.ndarray) -> np.ndarray:
    height, width = image_HW3.shape[:2]
    return rgb2lab(cv2.resize(image_HW3, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA))


def _gmsd(grey_HW: np.ndarray, reference_HW: np.ndarray, constant: float = 170.0) -> float:
    """On images averaged over 2 x 2 pixels and halved, with Prewitt gradients, as published."""
    kernel = np.array([[1, 0, -1]] * 3, np.float64) / 3
    gradients = []
    for image in (grey_HW, reference_HW):
        half = cv2.filter2D(image.astype(np.float64), -1, np.full((2, 2), 0.25))[::2, ::2]
        gradients.append(np.hypot(cv2.filter2D(half, -1, kernel), cv2.filter2D(half, -1, kernel.T)))
    a, b = gradients
    return float(((2 * a * b + constant) / (a**2 + b**2 + constant)).std())

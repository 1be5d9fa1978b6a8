"""Well-known estimators of what may be wrong with an image, from its pixels alone.

All are computed on the middle part of the image at native resolution, `MAX_SIDE_PX` a side at most: noise, blocks and
sharpness change when an image is resized.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import pywt
from scipy.stats import norm
from skimage.measure import blur_effect

from grmp_core.imaging.views import Pixels

MAX_SIDE_PX = 1024
_MIN_SIDE_PX = 16
_DARK, _BRIGHT = 8, 247


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Estimates for one image. Below 16 px a side those that need more are NaN."""

    blur: float
    """Blur effect in [0, 1], 0 sharp (Crete et al. 2007; scikit-image); 1 for a flat image."""
    laplacian_variance: float
    """Variance of the Laplacian of the grey image, grey levels squared; low is blurred (OpenCV)."""
    noise_sigma: float
    """Standard deviation of Gaussian noise by the median of the finest wavelets, grey levels of 255, mean of the three
    channels (Donoho and Johnstone 1994; PyWavelets)."""
    blocking: float
    """Steps across borders of 8 x 8 blocks over all other steps between neighbours, for the best of the 8 x 8 grids;
    about 1 without blocks."""
    mean_luma: float
    """Mean grey level, 0 to 255."""
    dark_share: float
    """Share of pixels with a grey level of 8 or less."""
    bright_share: float
    """Share of pixels with a grey level of 247 or more."""
    contrast: float
    """Standard deviation of the grey level (RMS contrast), 0 to 127.5."""
    colour_cast: float
    """Distance of the mean colour from grey in the a*b* plane of CIE L*a*b*."""
    colourfulness: float
    """Of Hasler and Suesstrunk 2003; 0 is grey, 109 extremely colourful."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def measure(image_HW3: Pixels) -> Measurements:
    """Measure an image (H, W, 3) uint8 RGB of any size."""
    image = middle_of(image_HW3)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    a, b = _mean_ab(image)
    is_small = min(grey.shape) < _MIN_SIDE_PX
    return Measurements(
        blur=np.nan if is_small else float(blur_effect(grey)),
        laplacian_variance=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        noise_sigma=np.nan if is_small else noise_sigma(image),
        blocking=np.nan if is_small else blocking(grey),
        mean_luma=float(grey.mean()),
        dark_share=float((grey <= _DARK).mean()),
        bright_share=float((grey >= _BRIGHT).mean()),
        contrast=float(grey.std()),
        colour_cast=float(np.hypot(a, b)),
        colourfulness=_colourfulness(image),
    )


def middle_of(image_HW3: Pixels, side_px: int = MAX_SIDE_PX) -> np.ndarray:
    """The middle part, at most `side_px` a side; it begins at a multiple of 8 px, so that JPEG's blocks stay."""
    height, width = image_HW3.shape[:2]
    top, left = (max(0, side - side_px) // 2 // 8 * 8 for side in (height, width))
    return np.ascontiguousarray(image_HW3[top : top + side_px, left : left + side_px])


def noise_sigma(image_HW3: np.ndarray) -> float:
    """Standard deviation of noise in grey levels: median of the finest diagonal wavelets, mean of the channels."""
    sigmas = []
    for channel in np.moveaxis(image_HW3.astype(np.float64), 2, 0):
        details = np.abs(pywt.dwt2(channel, "db2")[1][2])
        details = details[details > 1e-6]  # clipped and filled areas have no noise to measure
        sigmas.append(float(np.median(details) / norm.ppf(0.75)) if len(details) else 0.0)
    return float(np.mean(sigmas))


def blocking(grey_HW: np.ndarray, period_px: int = 8) -> float:
    """Mean step across the borders of `period_px` blocks over the mean of all other steps, of the grid that fits best.

    Rows and columns each choose their offset, since a cut image has its blocks anywhere; the mean of both. 1 where
    there are no steps at all.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey_HW.astype(np.float64), axis=axis)).mean(axis=1 - axis)
        if not steps.any():
            ratios.append(1.0)
            continue
        border = np.array([steps[offset::period_px].mean() for offset in range(period_px)])
        total, count = steps.sum(), len(steps)
        counts = np.array([len(steps[offset::period_px]) for offset in range(period_px)])
        inner = (total - border * counts) / (count - counts)
        ratios.append(float(np.max(border / np.maximum(inner, 1e-9))))
    return float(np.mean(ratios))


def _mean_ab(image_HW3: np.ndarray) -> tuple[float, float]:
    small = cv2.resize(image_HW3, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    return float(lab[..., 1].mean()), float(lab[..., 2].mean())


def _colourfulness(image_HW3: np.ndarray) -> float:
    red, green, blue = (image_HW3[..., i].astype(np.float64) for i in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))

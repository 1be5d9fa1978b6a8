"""Blur: Gaussian, lens, motion."""

from __future__ import annotations

import math

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion

HALF_SIZE_RADIUS_PX = 5
"""From this radius on a disk is applied on the half-size picture: 13 px kernels cost ten times as much at full size."""
MIN_HALF_SIDE_PX = 32
_KERNEL_STEPS = 1 << 16


def gaussian_blur(image: np.ndarray, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """Kernel cut at two sigmas, as in KADID-10k's generator; sigma 0.1 px leaves the picture as it is."""
    size = 2 * math.ceil(2 * sigma_px) + 1
    return cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_REFLECT)


def lens_blur(image: np.ndarray, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    if radius_px < HALF_SIZE_RADIUS_PX or min(height, width) < MIN_HALF_SIDE_PX:
        return cv2.filter2D(image, -1, disk(radius_px), borderType=cv2.BORDER_REFLECT)
    half = cv2.resize(image, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    half = cv2.filter2D(half, -1, disk(radius_px / 2), borderType=cv2.BORDER_REFLECT)
    return cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)


def motion_blur(image: np.ndarray, length_px: float, rng: np.random.Generator) -> np.ndarray:
    """A length of 1 px is no motion: the picture as it is."""
    kernel = line(length_px, rng.uniform(0, math.pi))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)


def disk(radius_px: float) -> np.ndarray:
    """A disk of `radius_px` as a normalized kernel, its rim weighted by the covered share of each cell."""
    reach = math.ceil(radius_px - 0.5)
    fine = (np.arange((2 * reach + 1) * 16) + 0.5) / 16 - reach - 0.5
    inside = (fine[:, None] ** 2 + fine[None, :] ** 2 <= radius_px**2).astype(np.float32)
    size = 2 * reach + 1
    return _exact(inside.reshape(size, 16, size, 16).mean(axis=(1, 3)))


def line(length_px: float, angle_rad: float) -> np.ndarray:
    """A straight camera path of `length_px` as a normalized kernel, drawn by its distance to each cell."""
    half = max(length_px - 1, 0) / 2
    reach = math.ceil(half)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    along = x * math.cos(angle_rad) + y * math.sin(angle_rad)
    across = -x * math.sin(angle_rad) + y * math.cos(angle_rad)
    distance = np.hypot(np.maximum(np.abs(along) - half, 0), across)
    return _exact(np.maximum(1 - distance, 0))


def _exact(kernel: np.ndarray) -> np.ndarray:
    """Normalize to weights in whole 1/65536: their float32 sums with pixels are exact, in any order, on any machine."""
    kernel = np.rint(kernel * (_KERNEL_STEPS / kernel.sum()))
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] += _KERNEL_STEPS - kernel.sum()
    return (kernel / _KERNEL_STEPS).astype(np.float32)


BLURS = (
    Distortion(
        name="gaussian_blur",
        group="blur",
        kadid_id=1,
        tid_id=8,
        levels=(0.1, 0.5, 1, 2, 5),
        geometric=True,
        apply=gaussian_blur,
        description="fine detail fades evenly (Gaussian kernel, parameter: sigma in px); level 1 is invisible",
    ),
    Distortion(
        name="lens_blur",
        group="blur",
        kadid_id=2,
        tid_id=None,
        levels=(1, 2, 4, 6, 8),
        apply=lens_blur,
        description="out of focus: points become disks (parameter: radius in px)",
    ),
    Distortion(
        name="motion_blur",
        group="blur",
        kadid_id=3,
        tid_id=None,
        levels=(1, 2, 4, 6, 10),
        apply=motion_blur,
        description="camera shake: points become strokes of one random direction (parameter: length in px); "
        "level 1 is no motion",
    ),
)

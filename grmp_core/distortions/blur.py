"""Blur: Gaussian, lens, motion."""

from __future__ import annotations

import math

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion


def gaussian_blur(image: np.ndarray, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    size = 2 * math.ceil(2 * sigma_px) + 1
    return cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_REFLECT)


def lens_blur(image: np.ndarray, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.filter2D(image, -1, disk(radius_px), borderType=cv2.BORDER_REFLECT)


def motion_blur(image: np.ndarray, length_px: float, rng: np.random.Generator) -> np.ndarray:
    kernel = line(length_px, rng.uniform(0, math.pi))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)


def disk(radius_px: float) -> np.ndarray:
    """A disk of `radius_px` as a normalized kernel, its rim weighted by the covered share of each cell."""
    reach = math.ceil(radius_px)
    fine = (np.arange((2 * reach + 1) * 8) + 0.5) / 8 - reach - 0.5
    inside = (fine[:, None] ** 2 + fine[None, :] ** 2 <= radius_px**2).astype(np.float32)
    size = 2 * reach + 1
    kernel = inside.reshape(size, 8, size, 8).mean(axis=(1, 3))
    return kernel / kernel.sum()


def line(length_px: float, angle_rad: float) -> np.ndarray:
    """A straight camera path of `length_px` as a normalized kernel, drawn by its distance to each cell."""
    half = max(length_px - 1, 0) / 2
    reach = math.ceil(half) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    along = x * math.cos(angle_rad) + y * math.sin(angle_rad)
    across = -x * math.sin(angle_rad) + y * math.cos(angle_rad)
    distance = np.hypot(np.maximum(np.abs(along) - half, 0), across)
    kernel = np.maximum(1 - distance, 0)
    return kernel / kernel.sum()


BLURS = (
    Distortion(
        name="gaussian_blur",
        group="blur",
        kadid_id=1,
        tid_id=8,
        levels=(0.1, 0.5, 1, 2, 5),
        geometric=True,
        apply=gaussian_blur,
        description="fine detail fades evenly (Gaussian kernel, parameter: sigma in px)",
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
        description="camera shake: points become strokes of one random direction (parameter: length in px)",
    ),
)

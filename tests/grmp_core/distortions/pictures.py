"""Pictures and measures that the distortion tests share."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions import get

INVISIBLE = {("gaussian_blur", 1), ("motion_blur", 1), ("saturation_lab", 1), ("mean_shift", 3)}
"""(type, level) whose parameter is the identity: sigma 0.1 px, a length of 1 px, a factor of 1, an offset of 0."""


def textured(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """A picture with edges, texture, smooth areas and saturated colours, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(height, width, 3)).astype(np.float32)
    cloud = cv2.GaussianBlur(noise, (0, 0), 6) * 350 + cv2.GaussianBlur(noise, (0, 0), 1.2) * 60
    image = np.clip(120 + cloud, 5, 250).astype(np.uint8)
    cv2.rectangle(image, (width // 8, height // 4), (width // 3, height * 3 // 4), (220, 60, 40), -1)
    cv2.circle(image, (width * 3 // 4, height // 2), height // 4, (30, 90, 200), 2)
    return image


def distort(image: np.ndarray, name: str, severity: float, seed: int = 3) -> np.ndarray:
    return get(name)(image, severity, np.random.default_rng(seed))


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity of the three channels (Wang et al. 2004, 11 px Gaussian window)."""
    x, y = a.astype(np.float64), b.astype(np.float64)

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(z, (11, 11), 1.5)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))))

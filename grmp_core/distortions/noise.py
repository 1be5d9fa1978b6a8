"""Noise: white in RGB or YCbCr, impulse, multiplicative, and what a denoiser leaves."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion, to_uint8


def white_noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(255 * np.sqrt(variance))
    return to_uint8(image + noise)


def white_noise_ycbcr(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    ycbcr = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(255 * np.sqrt(variance))
    return to_uint8(cv2.cvtColor((ycbcr + noise) / 255, cv2.COLOR_YCrCb2RGB) * 255)


def impulse_noise(image: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """Salt or pepper in single channels, as MATLAB's imnoise draws it."""
    result = image.reshape(-1).copy()
    count = int(rng.binomial(result.size, density))
    where = rng.integers(result.size, size=count)
    result[where] = rng.integers(2, size=count, dtype=np.uint8) * 255
    return result.reshape(image.shape)


def multiplicative_noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(np.sqrt(variance))
    noise += 1
    return to_uint8(image * noise)


def denoise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, then a denoiser as strong as the noise: flat areas turn waxy, texture is gone, blotches remain.

    KADID-10k used a neural denoiser; here it is a Gaussian and a bilateral filter, both as wide as the noise demands,
    which leaves the same look without a network.
    """
    noisy = white_noise(image, variance, rng)
    sigma = 255 * float(np.sqrt(variance))
    smoothed = cv2.GaussianBlur(noisy, (0, 0), 0.6 + sigma / 45, borderType=cv2.BORDER_REFLECT)
    return cv2.bilateralFilter(smoothed, 7, 0.9 * sigma, 2.5)


NOISES = (
    Distortion(
        name="white_noise",
        group="noise",
        kadid_id=11,
        tid_id=1,
        levels=(0.001, 0.002, 0.003, 0.005, 0.01),
        geometric=True,
        apply=white_noise,
        description="grain of equal strength in every colour channel (parameter: variance on the 0..1 scale)",
    ),
    Distortion(
        name="white_noise_ycbcr",
        group="noise",
        kadid_id=12,
        tid_id=2,
        levels=(0.0001, 0.0005, 0.001, 0.002, 0.003),
        geometric=True,
        apply=white_noise_ycbcr,
        description="grain in luma and, stronger to the eye, in chroma (parameter: variance on the 0..1 scale)",
    ),
    Distortion(
        name="impulse_noise",
        group="noise",
        kadid_id=13,
        tid_id=6,
        levels=(0.001, 0.005, 0.01, 0.02, 0.03),
        geometric=True,
        apply=impulse_noise,
        description="single values struck to black or white (parameter: share of values)",
    ),
    Distortion(
        name="multiplicative_noise",
        group="noise",
        kadid_id=14,
        tid_id=19,
        levels=(0.001, 0.005, 0.01, 0.02, 0.05),
        geometric=True,
        apply=multiplicative_noise,
        description="grain that grows with brightness (parameter: variance of the factor)",
    ),
    Distortion(
        name="denoise",
        group="noise",
        kadid_id=15,
        tid_id=9,
        levels=(0.01, 0.03, 0.05, 0.1, 0.15),
        geometric=True,
        apply=denoise,
        description="waxy patches and lost texture after strong denoising (parameter: variance of the removed noise)",
    ),
)

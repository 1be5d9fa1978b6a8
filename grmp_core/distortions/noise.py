"""Noise: white in RGB or YCbCr, impulse, multiplicative, and what a denoiser leaves."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.pixels import add_noise, in_strips, normal_quantiles, normal_table, split, uniform_codes
from grmp_core.distortions.registry import Distortion

_FRACTION_BITS = 5
_YCBCR_TO_RGB = np.array([[1.164, 0, 1.596], [1.164, -0.392, -0.813], [1.164, 2.017, 0]])
"""ITU-R BT.601 with the studio range (luma 16..235), the one of MATLAB, in which KADID-10k was made."""


def white_noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    table = normal_table(255 * np.sqrt(variance))
    return in_strips(image, lambda strip: add_noise(strip, table.take(uniform_codes(strip.shape, rng))))


def white_noise_ycbcr(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """White noise of this variance in Y, Cb and Cr each, brought back to RGB."""
    scale = 255 * np.sqrt(variance) * (1 << _FRACTION_BITS)
    tables = {weight: normal_table(scale * weight) for weight in _YCBCR_TO_RGB[_YCBCR_TO_RGB != 0].tolist()}

    def add(strip: np.ndarray) -> np.ndarray:
        codes = uniform_codes((3, *strip.shape[:2]), rng)
        noise = np.empty(strip.shape, np.int16)
        for channel, weights in enumerate(_YCBCR_TO_RGB.tolist()):
            parts = [tables[weight].take(codes[i]) for i, weight in enumerate(weights) if weight]
            total = sum(parts[1:], start=parts[0]) + np.int16(1 << (_FRACTION_BITS - 1))
            noise[..., channel] = total >> _FRACTION_BITS
        return add_noise(strip, noise)

    return in_strips(image, add)


def impulse_noise(image: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """Salt or pepper, evenly, in single channels: each value is struck with probability `density`."""
    result = image.reshape(-1).copy()
    count = int(rng.binomial(result.size, density))
    where = rng.choice(result.size, size=count, replace=False, shuffle=False)
    result[where] = rng.integers(2, size=count, dtype=np.uint8) * 255
    return result.reshape(image.shape)


def multiplicative_noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Every value times 1 + normal noise of this variance."""
    table = (1 + normal_quantiles() * np.sqrt(variance)).astype(np.float32)
    return in_strips(
        image, lambda strip: cv2.multiply(strip, table.take(uniform_codes(strip.shape, rng)), dtype=cv2.CV_8U)
    )


def denoise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, then a denoiser as strong as the noise: texture turns waxy, soft blotches remain.

    KADID-10k used a neural denoiser. A Gaussian and two bilateral passes on luma and a wide Gaussian on chroma leave
    that look at a tenth of the time of non-local means: 26, 24, 23, 21 and 20 dB of PSNR at the five levels on photos,
    the first about 2 dB under non-local means, the others within 1.5 dB.
    """
    noisy = white_noise(image, variance, rng)
    sigma = 255 * float(np.sqrt(variance))
    luma, red, blue = split(cv2.cvtColor(noisy, cv2.COLOR_RGB2YCrCb))
    luma = cv2.GaussianBlur(luma, (0, 0), 0.4 + sigma / 80, borderType=cv2.BORDER_REFLECT)
    luma = cv2.bilateralFilter(luma, 7, 1.5 * sigma, 2.5)
    luma = cv2.bilateralFilter(luma, 7, 0.8 * sigma, 2.5)
    chroma_sigma = 1.5 + sigma / 30
    chroma = [cv2.GaussianBlur(plane, (0, 0), chroma_sigma, borderType=cv2.BORDER_REFLECT) for plane in (red, blue)]
    return cv2.cvtColor(cv2.merge([luma, *chroma]), cv2.COLOR_YCrCb2RGB)


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
        description="coloured grain: noise in luma and chroma (parameter: variance on the 0..1 scale)",
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

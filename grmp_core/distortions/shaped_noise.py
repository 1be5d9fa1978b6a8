"""TID2013's shaped noises. Their parameter is the PSNR in dB that the noise alone would have: TID2013's levels are made
for about 33, 30, 27, 24 and 21 dB (Ponomarenko et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from grmp_core.distortions.compression import from_wavelet, jpeg, to_wavelet
from grmp_core.distortions.noise import white_noise
from grmp_core.distortions.pixels import add_noise, in_tiles, normal_table, uniform_codes
from grmp_core.distortions.registry import Distortion

TID_PSNR_DB = (33.0, 30.0, 27.0, 24.0, 21.0)
_RAW_SIGMA = 256.0
"""Raw noise is drawn in whole numbers of this deviation, filtered exactly, then scaled."""
_ACTIVITY_PX = 7
_MAX_MASKED_GAIN = 3.0


def rms_of(psnr_db: float) -> float:
    """Root mean squared error in grey values at a PSNR."""
    return 255 * 10 ** (-psnr_db / 20)


def spatially_correlated_noise(image: np.ndarray, psnr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White noise averaged over 3 x 3 px."""

    def coarse(raw: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(raw, cv2.CV_32F, (3, 3), normalize=False, borderType=cv2.BORDER_REFLECT)

    return _filtered(image, rms_of(psnr_db) / (_RAW_SIGMA * 3), coarse, rng)


def high_frequency_noise(image: np.ndarray, psnr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White noise less its average over 3 x 3 px."""

    def fine(raw: np.ndarray) -> np.ndarray:
        box = cv2.boxFilter(raw, cv2.CV_32F, (3, 3), normalize=False, borderType=cv2.BORDER_REFLECT)
        return 9 * raw.astype(np.float32) - box

    return _filtered(image, rms_of(psnr_db) / (_RAW_SIGMA * 72**0.5), fine, rng)


def masked_noise(image: np.ndarray, psnr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White noise in proportion to local contrast, so that texture hides it."""
    weight = _activity(image) * np.float32(rms_of(psnr_db) / _RAW_SIGMA)
    return _filtered(image, 1.0, lambda raw: raw * weight, rng)


def comfort_noise(image: np.ndarray, psnr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Fine texture replaced by noise of the same spectrum: wavelet coefficients under a threshold get random signs.

    The threshold is the one that brings the expected error to `psnr_db`; a picture with less texture than that keeps a
    higher PSNR.
    """
    return in_tiles(image, lambda tile: _comfort_noise_tile(tile, psnr_db, rng))


def noisy_compression(image: np.ndarray, psnr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, then JPEG with quantization steps in proportion to it, which leaves grain and blocks."""
    sigma = rms_of(psnr_db)
    scale_percent = 8 * sigma
    quality = 5000 / scale_percent if scale_percent > 100 else 100 - scale_percent / 2
    return jpeg(white_noise(image, (sigma / 255) ** 2, rng), quality, rng)


def _comfort_noise_tile(tile: np.ndarray, psnr_db: float, rng: np.random.Generator) -> np.ndarray:
    pyramid = to_wavelet(tile)
    flat = pyramid.flat()
    num_details = flat.size - pyramid.low.size
    magnitude = np.abs(flat[:num_details])
    bins = np.minimum(magnitude * 8, 65535).astype(np.int64)
    energy = np.cumsum(np.bincount(bins, weights=magnitude.astype(np.float64) ** 2))
    threshold = np.searchsorted(energy, rms_of(psnr_db) ** 2 * flat.size / 2) / 8
    flip = (uniform_codes((num_details,), rng) & 1).astype(bool) & (magnitude < threshold)
    flat[:num_details][flip] *= -1
    return from_wavelet(pyramid.with_flat(flat))


def _filtered(
    image: np.ndarray, scale: float, shape: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Add independent noise to each channel: raw whole numbers, through `shape`, times `scale`, rounded."""
    table = normal_table(_RAW_SIGMA)
    noise = np.empty(image.shape, np.int16)
    for channel in range(image.shape[2]):
        raw = table.take(uniform_codes(image.shape[:2], rng))
        noise[..., channel] = np.rint(shape(raw) * np.float32(scale))
    return add_noise(image, noise)


def _activity(image: np.ndarray) -> np.ndarray:
    """Local standard deviation of the grey picture, (H, W) float32, with a mean square of about 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    window = (_ACTIVITY_PX, _ACTIVITY_PX)
    mean = cv2.boxFilter(grey, cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_REFLECT)
    square = cv2.sqrBoxFilter(grey, cv2.CV_32F, window, normalize=False, borderType=cv2.BORDER_REFLECT)
    count = _ACTIVITY_PX**2
    deviation = np.sqrt(np.maximum(square * count - mean * mean, 0)) / count + np.float32(0.5)
    gain = np.minimum(deviation / np.sqrt(np.mean(deviation**2, dtype=np.float64)), _MAX_MASKED_GAIN)
    return (gain / np.sqrt(np.mean(gain**2, dtype=np.float64))).astype(np.float32)


SHAPED_NOISES = (
    Distortion(
        name="spatially_correlated_noise",
        group="noise",
        kadid_id=None,
        tid_id=3,
        levels=TID_PSNR_DB,
        apply=spatially_correlated_noise,
        description="coarse grain of a few pixels' size (parameter: PSNR in dB)",
    ),
    Distortion(
        name="masked_noise",
        group="noise",
        kadid_id=None,
        tid_id=4,
        levels=TID_PSNR_DB,
        apply=masked_noise,
        description="grain where texture hides it, smooth areas stay clean (parameter: PSNR in dB)",
    ),
    Distortion(
        name="high_frequency_noise",
        group="noise",
        kadid_id=None,
        tid_id=5,
        levels=TID_PSNR_DB,
        apply=high_frequency_noise,
        description="grain of the finest scale only (parameter: PSNR in dB)",
    ),
    Distortion(
        name="comfort_noise",
        group="noise",
        kadid_id=None,
        tid_id=20,
        levels=TID_PSNR_DB,
        apply=comfort_noise,
        description="fine texture is replaced by noise that resembles it (parameter: PSNR in dB)",
    ),
    Distortion(
        name="noisy_compression",
        group="compression",
        kadid_id=None,
        tid_id=21,
        levels=TID_PSNR_DB,
        apply=noisy_compression,
        description="JPEG of a noisy picture: grain frozen into blocks (parameter: PSNR in dB of the noise)",
    ),
)

"""Distortions as a script would write them, with scikit-image, SciPy and Pillow in floating point.

The stand-in for published generators in Python, whose code is not run here: the same kinds of damage at the same
parameters, not the same pixels. Every function takes a uint8 RGB image, a parameter, and a generator.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, filters, transform, util

Plain = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _noise(mode: str, name: str) -> Plain:
    return lambda image, value, rng: util.img_as_ubyte(util.random_noise(image, mode, rng=rng, **{name: value}))


def _disk(image: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = (x**2 + y**2 <= radius**2).astype(float)
    return np.stack([ndimage.convolve(plane, kernel / kernel.sum()) for plane in np.moveaxis(image / 255.0, 2, 0)], 2)


def _saved(image: np.ndarray, **options: object) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, **options)
    return np.asarray(Image.open(file))


def _diffusion(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    lab = color.rgb2lab(image)
    lab[..., 1:] = amount * filters.gaussian(lab[..., 1:], 1.5 * amount + 2, channel_axis=2)
    return util.img_as_ubyte(color.lab2rgb(lab))


def _hsv(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return util.img_as_ubyte(np.clip(color.hsv2rgb(color.rgb2hsv(image) * [1, factor, 1]), 0, 1))


def _lab(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return util.img_as_ubyte(color.lab2rgb(color.rgb2lab(image) * [1, factor, factor]))


def _pixelate(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    share = 0.95 - strength**0.6
    small = transform.resize(image, [max(1, round(share * side)) for side in image.shape[:2]], order=0)
    return util.img_as_ubyte(transform.resize(small, image.shape[:2], order=0))


PLAIN: dict[str, Plain] = {
    "gaussian_blur": lambda image, sigma, rng: util.img_as_ubyte(filters.gaussian(image, sigma, channel_axis=2)),
    "lens_blur": _disk,
    "colour_diffusion": _diffusion,
    "saturation_hsv": _hsv,
    "saturation_lab": _lab,
    "jpeg2000": lambda image, ratio, rng: _saved(image, format="JPEG2000", quality_layers=[ratio], irreversible=True),
    "jpeg": lambda image, quality, rng: _saved(image, format="JPEG", quality=int(quality)),
    "white_noise": _noise("gaussian", "var"),
    "impulse_noise": _noise("s&p", "amount"),
    "multiplicative_noise": _noise("speckle", "var"),
    "mean_shift": lambda image, offset, rng: util.img_as_ubyte(np.clip(image / 255.0 + offset, 0, 1)),
    "pixelate": _pixelate,
    "sharpen": lambda image, amount, rng: util.img_as_ubyte(filters.unsharp_mask(image, 1, amount, channel_axis=2)),
}

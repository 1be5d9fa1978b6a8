"""Colour: chroma diffusion and shift, palette, saturation."""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image

from grmp_core.distortions.registry import Distortion, to_uint8


def to_lab(image: np.ndarray) -> np.ndarray:
    """RGB uint8 -> CIE Lab float32 (L 0..100, a and b about ±128)."""
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """CIE Lab float32 -> RGB uint8, clipped to the gamut."""
    return to_uint8(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB) * 255)


def colour_diffusion(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    lab = to_lab(image)
    sigma_px = 1.5 * amount + 2
    factor = max(1, min(int(sigma_px // 3), min(image.shape[:2]) // 8))  # wide blur of smooth chroma: on a smaller grid
    chroma = np.ascontiguousarray(lab[..., 1:])
    height, width = chroma.shape[:2]
    if factor > 1:
        chroma = cv2.resize(chroma, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    size = 2 * math.ceil(2 * sigma_px / factor) + 1
    chroma = cv2.GaussianBlur(chroma, (size, size), sigma_px / factor, borderType=cv2.BORDER_REPLICATE)
    if factor > 1:
        chroma = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_LINEAR)
    lab[..., 1:] = chroma * amount
    return from_lab(lab)


def colour_shift(image: np.ndarray, distance_px: float, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * math.pi)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.hypot(
        cv2.Sobel(grey, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE),
        cv2.Sobel(grey, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE),
    )
    mask = np.minimum(strength / max(float(np.percentile(strength, 95)), 1e-6), 1)
    move = np.array([[1, 0, distance_px * math.cos(angle)], [0, 1, distance_px * math.sin(angle)]], dtype=np.float32)
    height, width = grey.shape
    green = np.ascontiguousarray(image[..., 1]).astype(np.float32)
    moved = cv2.warpAffine(green, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result = image.copy()
    result[..., 1] = to_uint8(moved * mask + green * (1 - mask))
    return result


def colour_quantization(image: np.ndarray, num_colours: float, rng: np.random.Generator) -> np.ndarray:
    palette = Image.fromarray(image).quantize(
        round(num_colours), method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    return np.array(palette.convert("RGB"))


def saturation_hsv(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """HSV saturation times `factor`: every channel c becomes v − factor · (v − c), v the largest of the three."""
    value = cv2.max(cv2.max(image[..., 0], image[..., 1]), image[..., 2])[..., None].astype(np.float32)
    return to_uint8(value - factor * (value - image))


def saturation_lab(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    lab = to_lab(image)
    lab[..., 1:] *= factor
    return from_lab(lab)


COLOURS = (
    Distortion(
        name="colour_diffusion",
        group="colour",
        kadid_id=4,
        tid_id=None,
        levels=(1, 3, 6, 8, 12),
        apply=colour_diffusion,
        description="colours bleed over edges and grow garish (blurred, amplified chroma)",
    ),
    Distortion(
        name="colour_shift",
        group="colour",
        kadid_id=5,
        tid_id=None,
        levels=(1, 3, 6, 8, 12),
        apply=colour_shift,
        description="green is displaced along edges, leaving coloured fringes (parameter: distance in px)",
    ),
    Distortion(
        name="colour_quantization",
        group="colour",
        kadid_id=6,
        tid_id=None,
        levels=(64, 48, 32, 16, 8),
        geometric=True,
        apply=colour_quantization,
        description="few palette colours, no dither: banding and posterized areas (parameter: colours)",
    ),
    Distortion(
        name="saturation_hsv",
        group="colour",
        kadid_id=7,
        tid_id=18,
        levels=(0.4, 0.2, 0.1, 0, -0.4),
        apply=saturation_hsv,
        description="colours drain away, then turn into their opposites (parameter: factor of HSV saturation)",
    ),
    Distortion(
        name="saturation_lab",
        group="colour",
        kadid_id=8,
        tid_id=None,
        levels=(1, 2, 3, 6, 9),
        apply=saturation_lab,
        description="colours become garish (parameter: factor of the Lab chroma)",
    ),
)

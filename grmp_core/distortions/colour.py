"""Colour: chroma diffusion and shift, palette, saturation."""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image

from grmp_core.distortions.palette import codes_of, min_variance_palette
from grmp_core.distortions.pixels import in_strips, split, to_uint8
from grmp_core.distortions.registry import Distortion

_EDGE_SIGMA_PX = 4.0
_EDGE_GRID = 4
"""Edge strength is smooth at the scale of _EDGE_SIGMA_PX, so it is blurred on a grid this much coarser."""


def to_lab(image: np.ndarray) -> np.ndarray:
    """RGB uint8 -> CIE Lab float32 (L 0..100, a and b about ±128)."""
    return cv2.cvtColor(np.multiply(image, np.float32(1 / 255), dtype=np.float32), cv2.COLOR_RGB2Lab)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """CIE Lab float32 -> RGB uint8, clipped to the gamut."""
    rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    return to_uint8(np.multiply(rgb, np.float32(255), out=rgb))


def colour_diffusion(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Chroma of Lab blurred with sigma 1.5 * amount + 2 px and multiplied by `amount`; lightness stays."""
    height, width = image.shape[:2]
    sigma_px = 1.5 * amount + 2
    factor = max(1, min(round(sigma_px / 2), min(height, width) // 8))  # smooth chroma fits on a coarser grid
    coarse = cv2.resize(image, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    size = 2 * math.ceil(2 * sigma_px / factor) + 1
    codes = np.rint((to_lab(coarse)[..., 1:] + 128) * 256).astype(np.uint16)  # blurred in fixed point: same everywhere
    codes = cv2.GaussianBlur(codes, (size, size), sigma_px / factor, borderType=cv2.BORDER_REFLECT)
    codes = cv2.resize(codes, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 2)
    rows_done = 0

    def recolour(strip: np.ndarray) -> np.ndarray:
        nonlocal rows_done
        lab = to_lab(strip)
        chroma = codes[rows_done : rows_done + len(strip)].astype(np.float32)
        lab[..., 1:] = (chroma / np.float32(256) - 128) * np.float32(amount)
        rows_done += len(strip)
        return from_lab(lab)

    return in_strips(image, recolour)


def colour_shift(image: np.ndarray, distance_px: float, rng: np.random.Generator) -> np.ndarray:
    """Green is moved in a random direction, and blended in where the picture has edges."""
    angle = rng.uniform(0, 2 * math.pi)
    height, width = image.shape[:2]
    weight = _edge_weight(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    move = np.array([[1, 0, distance_px * math.cos(angle)], [0, 1, distance_px * math.sin(angle)]], dtype=np.float32)
    red, green, blue = split(image)
    moved = cv2.warpAffine(green, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    change = cv2.multiply(cv2.subtract(moved, green, dtype=cv2.CV_16S), weight, scale=1 / 255, dtype=cv2.CV_16S)
    return cv2.merge([red, cv2.add(green, change, dtype=cv2.CV_8U), blue])


def _edge_weight(grey: np.ndarray) -> np.ndarray:
    """How much edge there is around each pixel, (H, W) uint8: 0 at the 1st percentile, 255 at the 99th."""
    height, width = grey.shape
    wider = cv2.copyMakeBorder(grey, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    strength = cv2.add(cv2.absdiff(grey, wider[1:, :-1]), cv2.absdiff(grey, wider[:-1, 1:]))
    coarse = cv2.resize(
        strength.astype(np.float32),
        (-(-width // _EDGE_GRID), -(-height // _EDGE_GRID)),
        interpolation=cv2.INTER_AREA,
    )
    coarse = cv2.GaussianBlur(coarse, (0, 0), _EDGE_SIGMA_PX / _EDGE_GRID, borderType=cv2.BORDER_REPLICATE)
    low, high = np.percentile(coarse, [1, 99])
    scaled = (coarse - low) * (255 / max(high - low, 1e-3))
    return cv2.resize(to_uint8(scaled.astype(np.float32)), (width, height), interpolation=cv2.INTER_LINEAR)


def colour_quantization(image: np.ndarray, num_colours: float, rng: np.random.Generator) -> np.ndarray:
    """The nearest whole number of colours, chosen for this picture by least variance, without dither."""
    codes = codes_of(image)
    colours, table = min_variance_palette(codes, round(num_colours))
    return colours[table].take(codes.reshape(-1), axis=0).reshape(image.shape)


def quantization_dither(image: np.ndarray, num_colours: float, rng: np.random.Generator) -> np.ndarray:
    """As `colour_quantization`, with Floyd-Steinberg error diffusion."""
    colours, _ = min_variance_palette(codes_of(image), round(num_colours))
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.resize(colours, (256, 3)).reshape(-1).tobytes())
    dithered = Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return np.resize(colours, (256, 3))[np.asarray(dithered)]


def chromatic_aberration(image: np.ndarray, distance_px: float, rng: np.random.Generator) -> np.ndarray:
    """Red and blue move apart along a random direction, each by half the distance, and lose some sharpness."""
    angle = rng.uniform(0, 2 * math.pi)
    dx, dy = distance_px / 2 * math.cos(angle), distance_px / 2 * math.sin(angle)
    height, width = image.shape[:2]
    red, green, blue = split(image)
    moved = []
    for plane, sign in ((red, 1), (blue, -1)):
        move = np.array([[1, 0, sign * dx], [0, 1, sign * dy]], dtype=np.float32)
        plane = cv2.warpAffine(plane, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        moved.append(cv2.GaussianBlur(plane, (0, 0), 0.3 + distance_px / 8, borderType=cv2.BORDER_REFLECT))
    return cv2.merge([moved[0], green, moved[1]])


def saturation_hsv(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """HSV saturation times `factor`: every channel c becomes v − factor · (v − c), v the largest of the three."""
    red, green, blue = split(image)
    value = cv2.max(cv2.max(red, green), blue)
    return cv2.merge([cv2.addWeighted(plane, factor, value, 1 - factor, 0) for plane in (red, green, blue)])


def saturation_lab(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Chroma of Lab times `factor`; a factor of 1 changes no value by more than 1."""

    def saturate(strip: np.ndarray) -> np.ndarray:
        lab = to_lab(strip)
        lab *= np.array([1, factor, factor], np.float32)
        return from_lab(lab)

    return in_strips(image, saturate)


COLOURS = (
    Distortion(
        name="colour_diffusion",
        group="colour",
        kadid_id=4,
        tid_id=None,
        levels=(1, 3, 6, 8, 12),
        apply=colour_diffusion,
        description="colours bleed over edges and grow garish (parameter: gain of the blurred chroma)",
    ),
    Distortion(
        name="colour_shift",
        group="colour",
        kadid_id=5,
        tid_id=None,
        levels=(1, 3, 6, 8, 12),
        apply=colour_shift,
        description="green is displaced around edges, leaving coloured ghosts (parameter: distance in px)",
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
        description="colours become garish (parameter: factor of the Lab chroma); level 1 is as good as the picture",
    ),
)

TID_COLOURS = (
    Distortion(
        name="quantization_dither",
        group="colour",
        kadid_id=None,
        tid_id=22,
        levels=(64, 32, 16, 8, 4),
        geometric=True,
        apply=quantization_dither,
        description="few palette colours with error diffusion: a pattern of coloured dots (parameter: colours)",
    ),
    Distortion(
        name="chromatic_aberration",
        group="colour",
        kadid_id=None,
        tid_id=23,
        levels=(0.9, 1.4, 2.2, 4.5, 10),
        geometric=True,
        apply=chromatic_aberration,
        description="red and blue fringes on opposite sides of edges (parameter: distance between red and blue in px)",
    ),
)

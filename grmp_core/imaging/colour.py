"""Colours of a file as sRGB, by its embedded ICC profile or by the numbers of ITU-T H.273 that it or its profile names.

Without either, samples are sRGB. ICC profiles are applied by LittleCMS, perceptually, on samples of 8 bits. A profile
that moves no colour by more than 2 of 255 counts as sRGB and changes nothing.

H.273 names primaries and a transfer function, which count before a profile for PQ, HLG and linear light: 8 bits of
those are too few in the dark. PQ and HLG hold more light than a screen of sRGB shows. Their tone curve: light is taken
relative to BT.2408's reference white (203 cd/m²; HLG on a screen of 1000 cd/m²), in sRGB's primaries,
without negative values; the largest of the three, x, stays x up to .7 and becomes .7 + .3 (1 - exp(-(x - .7) / .3))
above, and the other two keep their proportion to it.

Sources: ICC.1:2022; ITU-T H.273; SMPTE ST 2084 (PQ); ITU-R BT.2100 (HLG), BT.2408, BT.2020; IEC 61966-2-1 (sRGB).

Shapes: samples (h, w, 3) whole numbers, 0 to white.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

Colour = Callable[[np.ndarray, int], np.ndarray]
"""(samples, white) -> (h, w, 3) uint8 sRGB."""

UNREADABLE = "the colour profile cannot be read; taken as sRGB"
UNSUITABLE = "the colour profile is for another kind of pixels; taken as sRGB"
_MAX_PROFILE_BYTES = 4 * 1024 * 1024
_MAX_TAGS = 100
_SRGB_CLOSE = 2
_UNSPECIFIED = 2
"""Of primaries and of transfer functions; libavif writes it beside a profile."""
_LINEAR, _PQ, _HLG = 8, 16, 18
_SDR_TRANSFERS = (1, 6, 13, 14, 15)
"""Seen on screens as sRGB's, which video's own curves are made for."""
_WHITE_CD_M2 = 203.0
_HLG_PEAK_CD_M2 = 1000.0
_KNEE = 0.7
_SRGB_STEPS = 65535
_DARK = np.float32(1e-6)
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709, sRGB
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_BT2020_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)


def eight_bits(samples: np.ndarray, white: int) -> np.ndarray:
    """Samples 0..white rounded to 0..255, uint8: in proportion, whatever curve they are coded by."""
    return ((samples.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def colour_of(image: Image.Image) -> tuple[Colour | None, str | None]:
    """How an opened picture becomes sRGB (null: it is), and a doubt about that. Of inks, `inks_of` tells."""
    profile = image.info.get("icc_profile")
    cicp = _numbers_told(image.info.get("cicp"), _numbers_of(profile or b""))
    if cicp is not None and (cicp[1] in (_PQ, _HLG) or (cicp[1] == _LINEAR and cicp[0] in _PRIMARIES)):
        return functools.partial(_by_numbers, cicp[0], cicp[1]), None
    if profile:
        return _by_profile(profile, image.mode)
    if cicp is not None and cicp[0] in _PRIMARIES and cicp[0] != 1 and cicp[1] in _SDR_TRANSFERS:
        return functools.partial(_by_numbers, cicp[0], cicp[1]), None
    return None, None


def _numbers_told(of_file: tuple[int, int] | None, of_profile: tuple[int, int] | None) -> tuple[int, int] | None:
    """Primaries and transfer function: the file's, where it says the second, else its profile's."""
    if of_file is None or of_profile is None or of_file[1] != _UNSPECIFIED:
        return of_file or of_profile
    primaries, transfer = of_profile
    return of_file[0] if primaries == _UNSPECIFIED else primaries, transfer


def inks_of(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """The transform of a CMYK picture with a profile for it."""
    profile = image.info.get("icc_profile")
    return _transform(profile, "CMYK") if profile and image.mode == "CMYK" and _mode_of(profile) == "CMYK" else None


def _by_profile(profile: bytes, mode: str) -> tuple[Colour | None, str | None]:
    space = _mode_of(profile)
    if space is None:
        return None, UNREADABLE
    if space == "CMYK" and mode == "CMYK":
        return None, None
    is_grey = mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;16")
    if mode == "CMYK" or space not in ("RGB", "L") or (space == "L" and not is_grey):
        return None, UNSUITABLE
    transform = _transform(profile, space)
    if transform is None:
        return None, UNREADABLE
    if _is_srgb(profile, space):
        return None, None
    return functools.partial(_transformed, transform, space), None


def _transformed(transform: ImageCms.ImageCmsTransform, mode: str, samples: np.ndarray, white: int) -> np.ndarray:
    pixels = samples if samples.dtype == np.uint8 else eight_bits(samples, white)
    image = Image.fromarray(np.ascontiguousarray(pixels if mode == "RGB" else pixels[..., 0]))
    return np.asarray(transform.apply(image))


def _numbers_of(profile: bytes) -> tuple[int, int] | None:
    """Primaries and transfer function by the tag `cicp` (ICC.1:2022), if a profile has one."""
    count = min(int.from_bytes(profile[128:132], "big"), _MAX_TAGS)
    for at in range(132, 132 + 12 * count, 12):
        if profile[at : at + 4] == b"cicp":
            value = profile[int.from_bytes(profile[at + 4 : at + 8], "big") :][:12]
            return (value[8], value[9]) if value[:4] == b"cicp" and len(value) == 12 else None
    return None


@functools.lru_cache(maxsize=16)
def _mode_of(profile: bytes) -> str | None:
    """The mode of pixels that a profile is for, or its own name for other ones; null where it cannot be read."""
    if len(profile) > _MAX_PROFILE_BYTES:
        return None
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
    except Exception:  # OSError, and whatever else LittleCMS's wrapper raises of a damaged one
        return None
    return _MODES.get(space, space)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; null where the profile lacks what that needs."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # ImageCms.PyCMSError, and whatever else a damaged one raises
        return None


@functools.lru_cache(maxsize=16)
def _is_srgb(profile: bytes, mode: str) -> bool:
    transform = _transform(profile, mode)
    if transform is None:
        return False
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    grid = np.stack(np.meshgrid(*(3 * [levels])), axis=-1).reshape(-1, len(levels), 3)
    if mode == "L":
        grid = np.repeat(levels[None, :, None], 3, axis=2)
    moved = np.abs(_transformed(transform, mode, grid, 255).astype(int) - grid)
    return int(moved.max()) <= _SRGB_CLOSE


@functools.cache
def lab_transform() -> Any:
    """CIE L*a*b* of 8 bits to sRGB."""
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


# --- the numbers of H.273 --------------------------------------------------------------------------------------------


def _by_numbers(primaries: int, transfer: int, samples: np.ndarray, white: int) -> np.ndarray:
    light = _light_of_codes(transfer, white).take(samples, axis=0)
    if transfer == _HLG:
        light = light * (_HLG_PEAK_CD_M2 / _WHITE_CD_M2) * cv2.transform(light, _BT2020_LUMINANCE)[..., None] ** 0.2
    light = np.maximum(cv2.transform(light, _to_srgb_primaries(primaries)), 0)
    if transfer in (_PQ, _HLG):
        largest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
        light *= (tone(largest) / np.maximum(largest, _DARK))[..., None]
    return _srgb_codes().take((np.minimum(light, 1) * _SRGB_STEPS + 0.5).astype(np.uint16))


def tone(light: np.ndarray) -> np.ndarray:
    """Light relative to the reference white, 0 and more -> light of the screen, 0 to 1."""
    above = np.maximum(light - _KNEE, 0)
    return np.minimum(light, _KNEE) + (1 - _KNEE) * (1 - np.exp(-above / (1 - _KNEE)))


@functools.lru_cache(maxsize=8)
def _light_of_codes(transfer: int, white: int) -> np.ndarray:
    """(white + 1,) light of each sample value: 1 is white, of HLG the light of the scene up to 1."""
    codes = np.arange(white + 1) / white
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        powered = codes ** (1 / m2)
        light = 10_000 / _WHITE_CD_M2 * (np.maximum(powered - c1, 0) / (c2 - c3 * powered)) ** (1 / m1)
    elif transfer == _HLG:
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        light = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    elif transfer == _LINEAR:
        light = codes
    else:
        light = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@functools.cache
def _srgb_codes() -> np.ndarray:
    """Light in steps of 1 / 65535 -> sRGB's code of 8 bits."""
    light = np.arange(_SRGB_STEPS + 1) / _SRGB_STEPS
    codes = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * codes).astype(np.uint8)


@functools.cache
def _to_srgb_primaries(primaries: int) -> np.ndarray:
    """(3, 3) from linear light in these primaries to linear light in sRGB's; unknown ones count as BT.2020."""
    known = _PRIMARIES.get(primaries, _PRIMARIES[9])
    return (np.linalg.inv(_xyz_of(_PRIMARIES[1])) @ _xyz_of(known)).astype(np.float32)


def _xyz_of(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(3, 3) from linear RGB with white D65 to CIE XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - _D65[0] - _D65[1]) / _D65[1]])
    return columns * np.linalg.solve(columns, white)

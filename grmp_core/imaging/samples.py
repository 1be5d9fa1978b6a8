"""Loaded pictures of any depth, of which any region is had as 8-bit RGB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageCms

from grmp_core.imaging.colour import Colour

MAX_UINT8, MAX_INT16, MAX_UINT16 = 255, 32767, 65535
_BAND_PX = 1 << 18
"""Pixels that are converted at a time: as much as stays in a processor's cache, and no second picture in memory."""
_MODES_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class Box(NamedTuple):
    """A region of a stored picture, in pixels; right and bottom are outside, as Pillow has it."""

    left: int
    top: int
    right: int
    bottom: int


class Samples(Protocol):
    """A loaded picture of some depth, as stored."""

    def rgb(self, box: Box) -> np.ndarray:
        """A region as (h, w, 3) uint8 RGB."""

    def bits_used(self) -> int | None:
        """Of 16 stored bits, where nothing says which value is white: 8, 10, 12 or 16 by the largest sample."""


def bands(box: Box) -> Iterator[Box]:
    """The box cut into bands of rows, from the top; rows that are longer than a band into pieces."""
    width = max(1, min(box.right - box.left, _BAND_PX))
    rows = _BAND_PX // width
    for top in range(box.top, box.bottom, rows):
        for left in range(box.left, box.right, width):
            yield Box(left, top, min(left + width, box.right), min(top + rows, box.bottom))


@dataclass(frozen=True, kw_only=True)
class EightBit:
    """A picture that Pillow converts to RGB. Palettes and transparency are resolved region by region."""

    image: Image.Image
    stored_16: bool
    colour: Colour | None = None
    transform: ImageCms.ImageCmsTransform | None = None
    """Of a picture whose pixels are no RGB, to sRGB."""

    def rgb(self, box: Box) -> np.ndarray:
        pixels = self._pixels(box)
        return pixels if self.colour is None else self.colour(pixels, MAX_UINT8)

    def _pixels(self, box: Box) -> np.ndarray:
        image = self.image.crop(box)
        if self.transform is not None:
            return np.asarray(self.transform.apply(image))
        if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
            with_alpha = image.convert("RGBA")
            white = Image.new("RGBA", with_alpha.size, (MAX_UINT8, MAX_UINT8, MAX_UINT8, MAX_UINT8))
            image = Image.alpha_composite(white, with_alpha)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

    def bits_used(self) -> int | None:
        if not self.stored_16:
            return None
        largest = max(int(self._pixels(band).max()) for band in bands(whole(self.image)))
        return _bits_of(largest << 8 | MAX_UINT8 if largest else 0)


@dataclass(frozen=True, kw_only=True)
class Grey16:
    """Grey samples of more than 8 bits."""

    image: Image.Image
    colour: Colour
    white: int
    inverted: bool
    """White is zero."""
    transparent: int | None
    largest: int

    def rgb(self, box: Box) -> np.ndarray:
        samples = np.minimum(np.asarray(self.image.crop(box)), self.white)
        grey = self.white - samples if self.inverted else samples
        rgb = self.colour(np.repeat(grey[:, :, None], 3, axis=2), self.white)
        if self.transparent is not None:
            rgb[samples == self.transparent] = MAX_UINT8
        return rgb

    def bits_used(self) -> int | None:
        return _bits_of(self.largest) if self.white in (MAX_UINT16, MAX_INT16) else None


@dataclass(frozen=True, kw_only=True)
class GreyAlpha16:
    """Grey with opacity, of a PNG, as its four bytes a pixel."""

    image: Image.Image
    colour: Colour

    def rgb(self, box: Box) -> np.ndarray:
        grey, alpha = self._grey_alpha(box)
        return self.colour(np.repeat(_on_white(grey, alpha, MAX_UINT16), 3, axis=2), MAX_UINT16)

    def bits_used(self) -> int | None:
        return _bits_of(max(int(self._grey_alpha(band)[0].max()) for band in bands(whole(self.image))))

    def _grey_alpha(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.asarray(self.image.crop(box)).astype(np.uint32)
        return pairs[..., 0:1] << 8 | pairs[..., 1:2], pairs[..., 2:3] << 8 | pairs[..., 3:4]


@dataclass(frozen=True, kw_only=True)
class Colour16:
    """Colours of 16 bits: their upper and their lower bytes as two pictures."""

    high: Image.Image
    low: Image.Image
    white: int
    colour: Colour
    premultiplied: bool
    """Colours are stored times their opacity."""
    transparent: tuple[int, int, int] | None
    """The one colour that is not seen."""

    def rgb(self, box: Box) -> np.ndarray:
        samples = np.minimum(self._samples(box), self.white)
        colour = samples[..., :3]
        if samples.shape[2] == 4:
            alpha = samples[..., 3:]
            if self.premultiplied:
                colour = np.minimum(colour + (self.white - alpha), self.white)
            else:
                colour = _on_white(colour, alpha, self.white)
        eight = self.colour(colour, self.white)
        if self.transparent is not None:
            eight[(samples == self.transparent).all(axis=2)] = MAX_UINT8
        return eight

    def bits_used(self) -> int | None:
        if self.white != MAX_UINT16:
            return None
        return _bits_of(max(int(self._samples(band)[..., :3].max()) for band in bands(whole(self.high))))

    def _samples(self, box: Box) -> np.ndarray:
        return np.asarray(self.high.crop(box)).astype(np.uint32) << 8 | np.asarray(self.low.crop(box))


@dataclass(frozen=True, kw_only=True)
class ArraySamples:
    """Samples of any depth that a library has decoded as a whole."""

    samples: np.ndarray
    """(H, W, channels): grey, grey and alpha, RGB, or RGB and alpha."""
    white: int
    colour: Colour

    def rgb(self, box: Box) -> np.ndarray:
        samples = np.minimum(self.samples[box.top : box.bottom, box.left : box.right], self.white).astype(np.uint32)
        if samples.shape[2] in (2, 4):
            samples = _on_white(samples[..., :-1], samples[..., -1:], self.white)
        return self.colour(np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 else samples, self.white)

    def bits_used(self) -> int | None:
        return None


def _on_white(samples: np.ndarray, alpha: np.ndarray, white: int) -> np.ndarray:
    """Samples and opacities, all uint32 in 0..white: what is seen of them before white. No sum leaves uint32."""
    return (samples * alpha + white * (white - alpha) + white // 2) // white


def _bits_of(largest: int) -> int:
    """The depth, 8, 10, 12 or 16 bits, in which the largest sample fits; 16 for black, which tells nothing."""
    return next((bits for bits in (8, 10, 12) if 0 < largest < 1 << bits), 16)


def whole(image: Image.Image) -> Box:
    """All of a picture."""
    return Box(0, 0, *image.size)

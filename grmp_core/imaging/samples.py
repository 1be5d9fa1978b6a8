"""Samples of any depth as 8-bit RGB: how a region of a loaded picture becomes an array.

Pillow has 16-bit grey pictures, but of 16-bit colour only the upper byte of each sample. Its unpackers for the other
byte order take the lower one, so a file of that kind is read twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PLANAR_CONFIGURATION, SAMPLEFORMAT

from grmp_core.errors import ImageError
from grmp_core.imaging.colour import Colour, eight_bits, inks_of, lab_transform
from grmp_core.imaging.extra_readers import FLOATS, ArrayFile
from grmp_core.imaging.readers import PlainTiff

_MAX_SAMPLE_VALUE = 281
_SIGNED = 2
_MAX_UINT8, _MAX_INT16, _MAX_UINT16 = 255, 32767, 65535
_BAND_PX = 1 << 18
"""Pixels that are converted at a time: as much as stays in a processor's cache, and no second picture in memory."""
_MODES_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_COLOUR_16 = re.compile(r"(RGB|RGBA|RGBX|RGBa);16([BLN])")
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_LOW_BIT_GREY = {"L;2": 85, "L;4": 17}
"""Pillow's factor for grey samples of 2 and 4 bits, which it leaves out for the transparent one."""


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


def load_samples(
    image: ImageFile, reopen: Callable[[], ImageFile], colour: Colour | None = None, with_inks: bool = True
) -> Samples:
    """Decode an opened picture.

    Args:
        reopen: opens the same file anew.
        colour: from samples to sRGB; null: samples are sRGB.
        with_inks: the profile of a CMYK picture is applied.

    Raises:
        ImageError: samples without a known white.
        Exception: whatever a decoder of Pillow raises.
    """
    if isinstance(image, ArrayFile):
        samples, white = image.array()
        return _Array(samples=samples, white=white, colour=colour or eight_bits)
    wide = colour or eight_bits
    rawmode = _rawmode(image)
    colour_16 = _COLOUR_16.fullmatch(rawmode)
    if rawmode == "LA;16B":
        _set_rawmode(image, "RGBA")  # the four bytes of a pixel, one after the other
        image.load()
        return _GreyAlpha16(image=image, colour=wide)
    if colour_16 and not _in_planes(image):
        layout, order = colour_16[1].replace("a", "A"), colour_16[2]
        high = _set_rawmode(image, f"{layout};16{order}")
        low = _set_rawmode(reopen(), f"{layout};16{_OTHER_BYTE[order]}")
        high.load()
        low.load()
        transparent = image.info.get("transparency")
        return _Colour16(
            high=high,
            low=low,
            white=_white(image),
            premultiplied=colour_16[1] == "RGBa",
            transparent=transparent,
            colour=wide,
        )
    if rawmode in _LOW_BIT_GREY and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= _LOW_BIT_GREY[rawmode]
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey_16(image, wide)
    if image.mode == "LAB" or (with_inks and inks_of(image) is not None):
        return _EightBit(
            image=image, stored_16=False, transform=lab_transform() if image.mode == "LAB" else inks_of(image)
        )
    return _EightBit(image=image, stored_16=";16" in rawmode, colour=colour)


def bands(box: Box) -> Iterator[Box]:
    """The box cut into bands of rows, from the top; rows that are longer than a band into pieces."""
    width = max(1, min(box.right - box.left, _BAND_PX))
    rows = _BAND_PX // width
    for top in range(box.top, box.bottom, rows):
        for left in range(box.left, box.right, width):
            yield Box(left, top, min(left + width, box.right), min(top + rows, box.bottom))


@dataclass(frozen=True, kw_only=True)
class _EightBit:
    """A picture that Pillow converts to RGB. Palettes and transparency are resolved region by region."""

    image: Image.Image
    stored_16: bool
    colour: Colour | None = None
    transform: ImageCms.ImageCmsTransform | None = None
    """Of a picture whose pixels are no RGB, to sRGB."""

    def rgb(self, box: Box) -> np.ndarray:
        pixels = self._pixels(box)
        return pixels if self.colour is None else self.colour(pixels, _MAX_UINT8)

    def _pixels(self, box: Box) -> np.ndarray:
        image = self.image.crop(box)
        if self.transform is not None:
            return np.asarray(self.transform.apply(image))
        if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
            with_alpha = image.convert("RGBA")
            white = Image.new("RGBA", with_alpha.size, (_MAX_UINT8, _MAX_UINT8, _MAX_UINT8, _MAX_UINT8))
            image = Image.alpha_composite(white, with_alpha)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

    def bits_used(self) -> int | None:
        if not self.stored_16:
            return None
        largest = max(int(self._pixels(band).max()) for band in bands(_whole(self.image)))
        return _bits_of(largest << 8 | _MAX_UINT8 if largest else 0)


@dataclass(frozen=True, kw_only=True)
class _Grey16:
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
            rgb[samples == self.transparent] = _MAX_UINT8
        return rgb

    def bits_used(self) -> int | None:
        return _bits_of(self.largest) if self.white in (_MAX_UINT16, _MAX_INT16) else None


@dataclass(frozen=True, kw_only=True)
class _GreyAlpha16:
    """Grey with opacity, of a PNG, as its four bytes a pixel."""

    image: Image.Image
    colour: Colour

    def rgb(self, box: Box) -> np.ndarray:
        grey, alpha = self._grey_alpha(box)
        return self.colour(np.repeat(_on_white(grey, alpha, _MAX_UINT16), 3, axis=2), _MAX_UINT16)

    def bits_used(self) -> int | None:
        return _bits_of(max(int(self._grey_alpha(band)[0].max()) for band in bands(_whole(self.image))))

    def _grey_alpha(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.asarray(self.image.crop(box)).astype(np.uint32)
        return pairs[..., 0:1] << 8 | pairs[..., 1:2], pairs[..., 2:3] << 8 | pairs[..., 3:4]


@dataclass(frozen=True, kw_only=True)
class _Colour16:
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
            eight[(samples == self.transparent).all(axis=2)] = _MAX_UINT8
        return eight

    def bits_used(self) -> int | None:
        if self.white != _MAX_UINT16:
            return None
        return _bits_of(max(int(self._samples(band)[..., :3].max()) for band in bands(_whole(self.high))))

    def _samples(self, box: Box) -> np.ndarray:
        return np.asarray(self.high.crop(box)).astype(np.uint32) << 8 | np.asarray(self.low.crop(box))


@dataclass(frozen=True, kw_only=True)
class _Array:
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


def _grey_16(image: ImageFile, colour: Colour) -> _Grey16:
    """InputError for floats, and for whole numbers beyond 16 bits."""
    if image.mode == "F":
        raise ImageError(FLOATS)
    smallest, largest = _MAX_UINT16, 0
    for band in bands(_whole(image)):
        samples = np.asarray(image.crop(band))
        smallest, largest = min(smallest, int(samples.min())), max(largest, int(samples.max()))
    if smallest < 0 or largest > _MAX_UINT16:
        raise ImageError(FLOATS)
    return _Grey16(
        image=image,
        colour=colour,
        white=_white(image),
        inverted=isinstance(image, PlainTiff) and image.white_is_zero,
        transparent=image.info.get("transparency"),
        largest=largest,
    )


def _white(image: ImageFile) -> int:
    """The sample of white in a wide picture, from what its header says of it.

    TIFF's MaxSampleValue counts where it names a number of bits; other values are the largest sample of the picture.
    """
    if not isinstance(image, PlainTiff):
        return _MAX_UINT16
    bits = max(image.tag_v2.get(BITSPERSAMPLE, (16,)))
    white = min((1 << bits) - 1, _MAX_UINT16)
    if bits == 16 and image.tag_v2.get(SAMPLEFORMAT, (1,))[0] == _SIGNED:
        white = _MAX_INT16
    told = image.tag_v2.get(_MAX_SAMPLE_VALUE, white)
    largest = max(told) if isinstance(told, tuple) else told
    names_bits = isinstance(largest, int) and _MAX_UINT8 <= largest < white and largest & (largest + 1) == 0
    return largest if names_bits else white


def _on_white(samples: np.ndarray, alpha: np.ndarray, white: int) -> np.ndarray:
    """Samples and opacities, all uint32 in 0..white: what is seen of them before white. No sum leaves uint32."""
    return (samples * alpha + white * (white - alpha) + white // 2) // white


def _bits_of(largest: int) -> int:
    """The depth, 8, 10, 12 or 16 bits, in which the largest sample fits; 16 for black, which tells nothing."""
    return next((bits for bits in (8, 10, 12) if 0 < largest < 1 << bits), 16)


def _whole(image: Image.Image) -> Box:
    return Box(0, 0, *image.size)


def _in_planes(image: ImageFile) -> bool:
    """Pillow reads 16-bit colours that are stored one after the other by unpackers that cannot be chosen."""
    return isinstance(image, PlainTiff) and image.tag_v2.get(PLANAR_CONFIGURATION, 1) != 1


def _rawmode(image: ImageFile) -> str:
    """How Pillow will unpack the samples; empty where that is not said before it decodes."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _set_rawmode(image: ImageFile, rawmode: str) -> ImageFile:
    """The picture itself, to be unpacked in another way."""
    image.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in image.tile
    ]
    return image

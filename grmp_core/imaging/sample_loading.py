"""How an opened picture of any depth is loaded.

Pillow has 16-bit grey pictures, but of 16-bit colour only the upper byte of each sample. Its unpackers for the other
byte order take the lower one, so a file of that kind is read twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PLANAR_CONFIGURATION, SAMPLEFORMAT

from grmp_core.errors import ImageError
from grmp_core.imaging.colour import Colour, eight_bits, inks_of, lab_transform
from grmp_core.imaging.extra_readers import FLOATS, ArrayFile
from grmp_core.imaging.readers import PlainTiff
from grmp_core.imaging.samples import (
    MAX_INT16,
    MAX_UINT8,
    MAX_UINT16,
    ArraySamples,
    Colour16,
    EightBit,
    Grey16,
    GreyAlpha16,
    Samples,
    bands,
    whole,
)

_MAX_SAMPLE_VALUE = 281
_SIGNED = 2
_COLOUR_16 = re.compile(r"(RGB|RGBA|RGBX|RGBa);16([BLN])")
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_LOW_BIT_GREY = {"L;2": 85, "L;4": 17}
"""Pillow's factor for grey samples of 2 and 4 bits, which it leaves out for the transparent one."""


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
        return ArraySamples(samples=samples, white=white, colour=colour or eight_bits)
    wide = colour or eight_bits
    rawmode = _rawmode(image)
    colour_16 = _COLOUR_16.fullmatch(rawmode)
    if rawmode == "LA;16B":
        _set_rawmode(image, "RGBA")  # the four bytes of a pixel, one after the other
        image.load()
        return GreyAlpha16(image=image, colour=wide)
    if colour_16 and not _in_planes(image):
        layout, order = colour_16[1].replace("a", "A"), colour_16[2]
        high = _set_rawmode(image, f"{layout};16{order}")
        low = _set_rawmode(reopen(), f"{layout};16{_OTHER_BYTE[order]}")
        high.load()
        low.load()
        transparent = image.info.get("transparency")
        return Colour16(
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
        return EightBit(
            image=image, stored_16=False, transform=lab_transform() if image.mode == "LAB" else inks_of(image)
        )
    return EightBit(image=image, stored_16=";16" in rawmode, colour=colour)


def _grey_16(image: ImageFile, colour: Colour) -> Grey16:
    """InputError for floats, and for whole numbers beyond 16 bits."""
    if image.mode == "F":
        raise ImageError(FLOATS)
    smallest, largest = MAX_UINT16, 0
    for band in bands(whole(image)):
        samples = np.asarray(image.crop(band))
        smallest, largest = min(smallest, int(samples.min())), max(largest, int(samples.max()))
    if smallest < 0 or largest > MAX_UINT16:
        raise ImageError(FLOATS)
    return Grey16(
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
        return MAX_UINT16
    bits = max(image.tag_v2.get(BITSPERSAMPLE, (16,)))
    white = min((1 << bits) - 1, MAX_UINT16)
    if bits == 16 and image.tag_v2.get(SAMPLEFORMAT, (1,))[0] == _SIGNED:
        white = MAX_INT16
    told = image.tag_v2.get(_MAX_SAMPLE_VALUE, white)
    largest = max(told) if isinstance(told, tuple) else told
    names_bits = isinstance(largest, int) and MAX_UINT8 <= largest < white and largest & (largest + 1) == 0
    return largest if names_bits else white


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

"""Readers of HEIC and JPEG XL, which the extra `formats` brings: pi-heif and imagecodecs, and jxlpy for the colour
profile of JPEG XL, where it has a wheel.

Both readers decode to arrays of any depth, which Pillow's pictures cannot hold; `array` gives them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import IO, NamedTuple

import numpy as np
from PIL.ImageFile import ImageFile

from grmp_core.errors import ImageError

PACKAGES = {"HEIC": "pi_heif", "JPEG XL": "imagecodecs"}
JXL_NOTE = "without jxlpy, colour profiles of JPEG XL are not read; taken as sRGB"
_JXL_CODESTREAM = b"\xff\x0a"
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_JXL_HEADER_BYTES = 64
FLOATS = "32-bit samples have no known white; convert it to 8 or 16 bits"


class DecodedArray(NamedTuple):
    samples: np.ndarray
    """(H, W, channels): grey, grey and alpha, RGB, or RGB and alpha, uint8 or uint16."""
    white: int


class ArrayFile(ImageFile):
    """A picture whose header is read, to be decoded into an array."""

    def array(self) -> DecodedArray:
        """Decode all of it. Whatever the library raises for a damaged file."""
        raise NotImplementedError


class PlainHeic(ArrayFile):
    """The primary picture of a HEIC file, as it is to be seen: libheif turns it."""

    def _open(self) -> None:
        import pi_heif

        assert self.fp is not None  # noqa: S101 - for the type checker
        file = pi_heif.HeifFile(self.fp, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        self._frame = file[file.primary_index]
        self._size, self._mode = self._frame.size, "L" if self._frame.mode.startswith(("L", "I")) else "RGB"
        self.orientation = 1
        profile = self._frame.info.get("icc_profile")
        if profile:
            self.info["icc_profile"] = profile
        numbers = self._frame.info.get("nclx_profile")
        if numbers:
            self.info["cicp"] = (int(numbers["color_primaries"]), int(numbers["transfer_characteristics"]))

    def array(self) -> DecodedArray:
        samples = np.array(self._frame)  # a copy: the array of pi-heif dies with its file
        self._size = self._frame.size
        bits = int(self._frame.info["bit_depth"])
        return DecodedArray(samples.reshape(*samples.shape[:2], -1), (1 << bits) - 1)


class PlainJxl(ArrayFile):
    """The first frame of a JPEG XL file, upright.

    Its profile is that of the pixels as libjxl decodes them; it makes one where the file names its colours by numbers.
    """

    has_profile = False

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101 - for the type checker
        self._data = self.fp.read()
        width, height, self._bits = jxl_header(self._data)
        self._size, self._mode, self.orientation = (width, height), "RGB", 1
        if importlib.util.find_spec("jxlpy"):
            import jxlpy

            decoder = jxlpy.JXLPyDecoder(self._data)  # it points to these bytes without keeping them alive
            self._mode = "L" if decoder.get_colorspace().startswith("L") else "RGB"
            self.info["icc_profile"], self.has_profile = decoder.get_icc_profile(), True

    def array(self) -> DecodedArray:
        import imagecodecs

        samples = imagecodecs.jpegxl_decode(self._data, index=0, numthreads=1)
        if samples.dtype not in (np.uint8, np.uint16):
            raise ImageError(FLOATS)
        self._size = samples.shape[1], samples.shape[0]
        white = (1 << self._bits) - 1 if self._bits else int(np.iinfo(samples.dtype).max)
        return DecodedArray(samples.reshape(*samples.shape[:2], -1), white)


class JxlHeader(NamedTuple):
    width: int
    height: int
    bits: int | None
    """Of a sample; null where it is not said before other headers that are not read."""


def jxl_header(data: bytes) -> JxlHeader:
    """Begin of a JPEG XL file (ISO/IEC 18181-1), before it is turned. ValueError where there is none."""
    bits = int.from_bytes(_jxl_codestream(data), "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def size() -> tuple[int, int]:
        def side() -> int:
            return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

        small = take(1)
        height, ratio = side(), take(3)
        across, down = _JXL_RATIOS[ratio - 1] if ratio else (0, 1)
        return (height * across // down if ratio else side()), height

    width, height = size()
    if take(1):
        return JxlHeader(width, height, 8)
    if take(1):
        take(3)  # orientation
        if take(1):
            size()
        if take(1) or take(1):  # a preview or an animation has headers of its own
            return JxlHeader(width, height, None)
    if take(1):
        raise ImageError(FLOATS)
    choice = take(2)
    return JxlHeader(width, height, (8, 10, 12)[choice] if choice < 3 else take(6) + 1)


def _jxl_codestream(data: bytes) -> bytes:
    """Its first bytes behind the signature, bare or in the boxes of a container."""
    at = 0
    while data[at : at + 2] != _JXL_CODESTREAM:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            at += head + (4 if kind == b"jxlp" else 0)
            if data[at : at + 2] != _JXL_CODESTREAM:
                raise ValueError("no JPEG XL codestream")
        elif length < head:
            raise ValueError("no JPEG XL codestream")
        else:
            at += length
    return data[at + 2 : at + _JXL_HEADER_BYTES]


def extra_readers() -> dict[str, Callable[[IO[bytes]], ImageFile]]:
    """Those whose package is installed."""
    readers: dict[str, Callable[[IO[bytes]], ImageFile]] = {"HEIC": PlainHeic, "JPEG XL": PlainJxl}
    return {kind: reader for kind, reader in readers.items() if importlib.util.find_spec(PACKAGES[kind])}

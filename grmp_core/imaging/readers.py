"""Pillow's readers, one a kind of file, kept to what pixels need.

Pillow parses all metadata while it opens files, writes EXIF anew when it turns a picture, and takes a PNG's texts for
settings: much that has nothing to do with pixels makes intact pictures fail or look different. The readers below leave
metadata alone, and pictures come as they are stored; `orientation_of` tells how to turn them. The methods they override
belong to Pillow 13.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from PIL import AvifImagePlugin, Image
from PIL.BmpImagePlugin import BmpImageFile, DibImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile, _Tile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngStream
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ImageFileDirectory_v2,
    TiffImageFile,
)
from PIL.WebPImagePlugin import WebPImageFile

from grmp_core.imaging.extra_readers import extra_readers
from grmp_core.imaging.tags import ORIENTATION, ORIENTATION_IN_TEXT, orientation_in, profile_in, valid_orientation

_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_PIXEL_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, ORIENTATION, 277, 278, 279, 281, 284, 292, 293, 317, 320, 322, 323, 324}
    | {325, 338, 339, 347, *range(512, 522), 529, 530, 531, 532, 0xBC01}
)
"""The tags of TIFF that say how pixels are stored."""
_TIFF_ENTRY_BYTES = (12, 20)
_PLACES = (273, 279, 324, 325)
"""The tags that say where in the file pixels are, and how many bytes they take."""
_LONG = 4
_WHOLE_NUMBERS = (3, _LONG, 13, 16, 18)
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf")
_COLOUR_CHUNKS = (b"cICP", b"iCCP")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_PROFILE_BYTES = 4 * 1024 * 1024
_COLOUR_NUMBERS = re.compile(rb"colrnclx(..)(..)", re.DOTALL)
"""Where an AVIF names its primaries and its transfer function."""
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}.{4,6})Exif", re.DOTALL)
"""Where an AVIF's list of items has EXIF among them."""


def _silence_libtiff() -> None:
    """libtiff writes a line on stderr for every fault of a file, without its name. Here the wheels of Linux have it."""
    for library in Path(Image.__file__).parents[1].glob("pillow.libs/libtiff*"):
        libtiff = ctypes.CDLL(str(library))  # the one that Pillow has loaded
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            getattr(libtiff, name).argtypes = [ctypes.c_void_p]
            getattr(libtiff, name)(None)


_silence_libtiff()


class PlainJpeg(JpegImageFile):
    """The first picture of a JPEG file, of a multi-picture one (MPO), too."""

    def _read_dpi_from_exif(self) -> None:
        pass


class _PixelChunks(PngStream):
    """A PNG's chunks, of which those without pixels are passed over, except that texts may tell the orientation."""

    def call(self, cid: bytes, pos: int, length: int) -> bytes:
        if cid in _PIXEL_CHUNKS or not _is_ancillary(cid):
            return super().call(cid, pos, length)
        if cid in _TEXT_CHUNKS:
            info, self.im_info = self.im_info, {}
            # whatever a damaged text raises: the picture is there all the same
            with contextlib.suppress(Exception):
                super().call(cid, pos, length)
            found, self.im_info = self.im_info, info
            info.update({key: found[key] for key in ORIENTATION_IN_TEXT if key in found})
        if cid in _COLOUR_CHUNKS and length <= _MAX_PROFILE_BYTES and self.fp is not None:
            self._colours(cid, self.fp.read(length))
        assert self.fp is not None  # noqa: S101 - for the type checker
        self.fp.seek(pos + length)
        return b""

    def _colours(self, cid: bytes, data: bytes) -> None:
        if cid == b"cICP" and len(data) == 4:
            self.im_info["cicp"] = (data[0], data[1])
        if cid == b"iCCP":
            packed = data.partition(b"\0")[2][1:]
            with contextlib.suppress(zlib.error):
                self.im_info["icc_profile"] = zlib.decompressobj().decompress(packed, _MAX_PROFILE_BYTES + 1)

    def crc(self, cid: bytes, data: bytes) -> None:
        if _is_ancillary(cid) and cid != b"tRNS":
            self.crc_skip(cid, data)
        else:
            super().crc(cid, data)


class PlainPng(PngImageFile):
    """The first picture of a PNG file, of an animated one, too."""

    @property
    def png(self) -> PngStream | None:
        return self._stream

    @png.setter
    def png(self, stream: PngStream | None) -> None:
        if stream is not None:
            stream.__class__ = _PixelChunks  # Pillow makes it where nothing can be put in
        self._stream = stream


class _PixelTags(ImageFileDirectory_v2):
    """A TIFF directory of which other tags are passed over: one that points outside the file would end it."""

    def _ensure_read(self, fp: IO[bytes], size: int) -> bytes:
        data = super()._ensure_read(fp, size)
        if size not in _TIFF_ENTRY_BYTES:
            return data
        tag, kind = struct.unpack(f"{self._endian}HH", data[:4])
        if tag not in _PIXEL_TAGS:
            return data[:2] + bytes(2) + data[4:]  # a type that does not exist: it is ignored
        if tag in _PLACES and kind not in _WHOLE_NUMBERS and size == _TIFF_ENTRY_BYTES[0]:
            count = struct.unpack(f"{self._endian}L", data[4:8])[0]
            # the format knows no other type for it, so that the damage is in the type
            return data[:2] + struct.pack(f"{self._endian}H", _LONG) + data[4:] if count == 1 else data
        return data


class PlainTiff(TiffImageFile):
    """The first page of a TIFF file, in its stored orientation."""

    white_is_zero = False
    """Samples wider than 8 bits count from white to black; Pillow gives them as they are."""
    orientation = 1

    def _seek(self, frame: int) -> None:
        self.tag_v2.__class__ = _PixelTags  # Pillow makes it where nothing can be put in
        super()._seek(frame)

    def _setup(self) -> None:
        self.orientation = valid_orientation(self.tag_v2.get(ORIENTATION))
        bits = self.tag_v2.get(BITSPERSAMPLE, (1,))
        if self.tag_v2.get(PHOTOMETRIC_INTERPRETATION, _WHITE_IS_ZERO) == _WHITE_IS_ZERO and max(bits) > 8:
            self.white_is_zero = True
            self.tag_v2[PHOTOMETRIC_INTERPRETATION] = _BLACK_IS_ZERO  # Pillow has big-endian ones only so
        super()._setup()
        if self.fp is not None and (profile := profile_in(self.fp, _MAX_PROFILE_BYTES)):
            self.info["icc_profile"] = profile
        self._size = self._tile_size
        if max(bits) > 8 and self.tag_v2.get(PLANAR_CONFIGURATION, 1) != 1 and not self.use_load_libtiff:
            # Pillow's own reading of planes takes every sample for a byte
            self.use_load_libtiff = True
            self.tile = [_Tile("libtiff", (0, 0, *self._size), 0, (f"{self.mode};16N", False, self.tag_v2.offset))]

    def load_end(self) -> None:
        pass  # Pillow reads all of EXIF here, and turns the picture


class PlainAvif(AvifImagePlugin.AvifImageFile):
    """The first picture of an AVIF file, in its stored orientation."""

    orientation = 1

    def _open(self) -> None:
        if not AvifImagePlugin.SUPPORTED:
            raise SyntaxError("this build of Pillow has no AVIF")
        assert self.fp is not None  # noqa: S101 - for the type checker
        threads = AvifImagePlugin._get_default_max_threads()
        data = _EXIF_ITEM.sub(rb"\1none", self.fp.read())  # libavif refuses pictures for the begin of their EXIF
        self._decoder = AvifImagePlugin._avif.AvifDecoder(data, "auto", threads)
        self._size, self.n_frames, self._mode, profile, _, orientation, _ = self._decoder.get_info()
        if profile:
            self.info["icc_profile"] = profile
        if numbers := _COLOUR_NUMBERS.search(data):
            self.info["cicp"] = (int.from_bytes(numbers[1], "big"), int.from_bytes(numbers[2], "big"))
        self.orientation = valid_orientation(orientation)  # of the boxes irot and imir: they outdo EXIF's
        self.is_animated = self.n_frames > 1
        self.seek(0)


READERS: dict[str, Callable[[IO[bytes]], ImageFile]] = {
    "JPEG": PlainJpeg,
    "PNG": PlainPng,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "TIFF": PlainTiff,
    "BMP": BmpImageFile,
    "DIB": DibImageFile,
    "PPM": PpmImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "AVIF": PlainAvif,
}
"""Kind, as `kinds.kind_of` names it -> what opens such a file. No other of Pillow's readers is used: some of them start
programs (EPS runs Ghostscript)."""
READERS |= extra_readers()


def orientation_of(image: Image.Image) -> int:
    """How a loaded picture of these readers is to be turned, 1..8 as EXIF counts; 1: it is upright."""
    known = getattr(image, "orientation", None)
    return orientation_in(image.info) if known is None else known


def _is_ancillary(chunk: bytes) -> bool:
    """True where a PNG can be shown without that chunk: its name begins with a small letter."""
    return chunk[:1].islower()

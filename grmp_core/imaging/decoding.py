"""Decoding photos that come from anywhere: one uint8 RGB array out, or one line that says why not.

Every image enters the package through `decode_image`, so that training and scoring see the same pixels, and so that
size limits hold everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le
from PIL import Image
from PIL.ImageFile import ImageFile

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.colour import colour_of
from grmp_core.imaging.extra_readers import JXL_NOTE, PlainJxl
from grmp_core.imaging.kinds import UNREAD_KINDS, kind_of
from grmp_core.imaging.readers import READERS, orientation_of
from grmp_core.imaging.sample_loading import load_samples
from grmp_core.imaging.samples import Box, Samples, bands
from grmp_core.settings import Settings
from grmp_core.storage import locate

_MAX_PX = 2**29 - 1
"""At 4 bytes each, pixels still have sizes of 31 bits in the libraries that decode them."""
_REASON_CHARACTERS = 200
_TRANSPOSED, _ROWS_TURNED, _COLUMNS_TURNED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
"""The eight orientations by their effect on a stored picture: first transposed, then mirrored in rows or columns."""

_PILLOW = threading.Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs of damaged files goes to stderr


@dataclass(frozen=True, kw_only=True)
class ImageLimits(Settings):
    """Images that are decoded; checked against the header before any pixel is."""

    max_pixels: Annotated[int, Ge(1), Le(_MAX_PX)] = 250_000_000
    """Largest width x height, in pixels. The default takes the 200-megapixel photos of phones. A process decodes one
    picture at a time, in 4 bytes a pixel for JPEG, PNG and TIFF (8 with 16-bit colour), 10 for AVIF, 16 for WebP and
    20 for JPEG 2000."""
    min_side_px: Annotated[int, Ge(1)] = 2
    """Smallest width and height, in pixels."""
    colour_profiles: bool = True
    """Pixels become sRGB by the colour profile that a file embeds, or by the code points that it names (Display P3, PQ,
    HLG). false: pixels are taken as they are, as CLIP's own loader takes them. A model scores with what it was adapted
    with."""
    max_pixels_setting: ClassVar[str] = "images.max_pixels"
    """The setting that messages tell to raise."""


DEFAULT_LIMITS = ImageLimits()


def colour_identity(limits: ImageLimits) -> dict[str, str]:
    """For an `Identity` without `colour_profiles`: results from before that setting have no such name, and had none
    applied."""
    return {"images.colours": "profiles applied"} if limits.colour_profiles else {}


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A decoded picture, upright, of which any region can be had: `image[rows, columns]`, two slices, is a new array
    (h, w, 3) uint8 RGB, as of an array (H, W, 3). It takes less memory than the whole of it as an array.

    Taking a region raises ImageError where memory does not suffice.
    """

    shape: tuple[int, int, int]
    """Height, width, 3."""
    notes: tuple[str, ...]
    """Doubts about the pixels, each the same line for every image that it concerns, to be counted."""
    _samples: Samples
    _orientation: int
    _where: str

    def __getitem__(self, region: tuple[slice, slice]) -> np.ndarray:
        (top, bottom), (left, right) = (part.indices(side)[:2] for part, side in zip(region, self.shape, strict=False))
        with _one_row_only(self._where, "cannot be converted"):
            upright = np.empty((max(0, bottom - top), max(0, right - left), 3), np.uint8)
            stored = upright
            if self._orientation in _ROWS_TURNED:
                stored, top, bottom = stored[::-1], self.shape[0] - bottom, self.shape[0] - top
            if self._orientation in _COLUMNS_TURNED:
                stored, left, right = stored[:, ::-1], self.shape[1] - right, self.shape[1] - left
            if self._orientation in _TRANSPOSED:
                stored, top, bottom, left, right = stored.swapaxes(0, 1), left, right, top, bottom
            for band in bands(Box(left, top, right, bottom)):
                rows, columns = slice(band.top - top, band.bottom - top), slice(band.left - left, band.right - left)
                stored[rows, columns] = self._samples.rgb(band)
        return upright


def decode_image(source: str | os.PathLike[str] | bytes, limits: ImageLimits = DEFAULT_LIMITS) -> DecodedImage:
    """Decode one image file, or the bytes of one.

    The EXIF orientation is applied, and the colour profile (`colour` has the rules; one that cannot be applied is a
    note). Samples of 10, 12 and 16 bits become 8-bit ones: 255 s / white, rounded, white being the largest number of
    their depth; PQ and HLG by their tone curve. Grey, palette, CMYK and L*a*b* become RGB, transparent parts are laid
    on white, and of an animation the first frame is taken. A path is a local file, never a URL. Of metadata nothing
    else is read, so that it cannot do harm.

    Raises:
        ImageError: missing, empty, truncated, not an image, outside `limits`, or samples without a known range.
    """
    where = "image bytes" if isinstance(source, bytes) else os.fspath(source)
    with _opened(source, where) as stream, _alone_with_pillow():
        with _one_row_only(where, "unreadable header"):
            read = _reader_of(stream)
            image = read()
        _check_size(image, limits, where)
        with _one_row_only(where, "damaged or truncated", image.size):
            colour, doubt = colour_of(image) if limits.colour_profiles else (None, None)
            samples = load_samples(image, read, colour, limits.colour_profiles)
            samples.rgb(Box(0, 0, 1, 1))  # what cannot be converted shows here
            without_profile = isinstance(image, PlainJxl) and not image.has_profile
            unread = JXL_NOTE if limits.colour_profiles and without_profile else None
            notes = _notes(samples, doubt, unread)
            orientation = orientation_of(image)
    width, height = reversed(image.size) if orientation in _TRANSPOSED else image.size
    return DecodedImage(shape=(height, width, 3), notes=notes, _samples=samples, _orientation=orientation, _where=where)


def read_image(source: str | os.PathLike[str] | bytes, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """All of a `decode_image` as an array, uint8 RGB of shape (H, W, 3). ImageError as there."""
    return decode_image(source, limits)[:, :]


def image_bytes(uri: str) -> bytes:
    """The bytes of an image file by path or URI. ImageError when it cannot be read."""
    try:
        return locate(uri).read_bytes()
    except (InputError, OSError) as error:
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise ImageError(f"cannot be read ({reason})", uri, transient=True) from error


def image_id(data: bytes) -> str:
    """Short name of an image file by its content, 16 hex digits: the same wherever it lies, whatever it is called."""
    return hashlib.sha256(data).hexdigest()[:16]


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes, where: str) -> Iterator[IO[bytes]]:
    if not isinstance(source, bytes) and not os.path.exists(source):
        raise ImageError("no such file", where)
    if not isinstance(source, bytes) and not os.path.isfile(source):
        raise ImageError("not a file", where)
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            if stream.seek(0, io.SEEK_END) == 0:
                raise ImageError("empty file (zero bytes)", where)
            stream.seek(0)
            yield stream
    except PermissionError as error:
        raise ImageError("no permission to read it", where) from error
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})", where) from error


@contextlib.contextmanager
def _alone_with_pillow() -> Iterator[None]:
    """Pillow without its own size limit, for which `ImageLimits` stands, and without warnings.

    Both belong to the whole process, so one thread at a time decodes; which also means that memory holds one picture
    that is being decoded. Both are as before when it is done.
    """
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def _one_row_only(where: str, doing: str, size: tuple[int, int] | None = None) -> Iterator[None]:
    """Turns every error of a decoder into an ImageError.

    Damaged files make Pillow and the libraries below it raise nearly any type: beside OSError and SyntaxError also
    RuntimeError, AttributeError, TypeError, AssertionError and more. None of them may cost more than the image's row.
    """
    try:
        yield
    except ImageError as error:
        raise ImageError(error.reason, where, error.transient) from error
    except MemoryError as error:
        pixels = f" {size[0]}x{size[1]} pixels" if size else ""
        raise ImageError(f"not enough memory to decode{pixels or ' it'}", where, transient=True) from error
    except Exception as error:
        raise ImageError(f"{doing}: {_one_line(error)}", where) from error


def _reader_of(stream: IO[bytes]) -> Callable[[], ImageFile]:
    """A function that opens the file, from its begin each time. ImageError for a kind that is not decoded."""
    kind = kind_of(stream)
    reader = READERS.get(kind or "")
    if reader is None:
        raise ImageError(UNREAD_KINDS.get(kind or "", "not an image in a known format"))

    def read() -> ImageFile:
        stream.seek(0)
        return reader(stream)

    return read


def _check_size(image: Image.Image, limits: ImageLimits, where: str) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(
            f"too large: {width}x{height} is more than {limits.max_pixels} pixels; raise {limits.max_pixels_setting}",
            where,
        )
    if min(width, height) < limits.min_side_px:
        raise ImageError(f"too small: {width}x{height}, the shortest side must be {limits.min_side_px} px", where)


def _notes(samples: Samples, *doubts: str | None) -> tuple[str, ...]:
    used = samples.bits_used()
    wide = None if used in (None, 16) else f"samples use only {used} of 16 bits; scored as 16-bit"
    return tuple(note for note in (wide, *doubts) if note)


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:_REASON_CHARACTERS]


def picture_of(path: str) -> bytes | str | ImageError:
    """Bytes of a remote file, or why there are none; a local path as it is, so that its header is looked at first."""
    if "://" not in path:
        return path
    try:
        return image_bytes(path)
    except ImageError as error:
        return error


def id_of_file(path: str) -> str | None:
    """The `image_id` of a file; null where it cannot be read, which its scoring will tell."""
    try:
        return image_id(image_bytes(path))
    except ImageError:
        return None

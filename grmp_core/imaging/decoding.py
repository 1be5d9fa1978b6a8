"""Decoding photos that come from anywhere: one uint8 RGB array out, or one line that says why not.

Every image enters the package through `read_image`, so that training and scoring see the same pixels, and so that
size limits hold everywhere. Colour profiles are not applied: pixels are taken as sRGB, as CLIP's own loader takes them.
"""

import contextlib
import glob
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from grmp_core.errors import InputError
from grmp_core.storage import locate

# Formats are named one by one because some of Pillow's other readers start programs (EPS runs Ghostscript).
# JPEG includes the multi-picture files of phones.
_WANTED_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
Image.init()
_FORMATS = tuple(name for name in _WANTED_FORMATS if name in Image.OPEN)  # AVIF is left out of some builds of Pillow
# Pillow refuses headers above twice its own bomb limit, whatever we allow; a limit above it would be a lie.
_PILLOW_CEILING_PX = 2 * 89_478_485
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, LookupError, OverflowError)
_MODES_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_MAX_UINT16 = 65535

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")
)
"""File name endings, lower case, that `list_images` takes for images. What a file holds is decided by its header."""


class ImageError(InputError):
    """One image cannot be used. `reason` is the cause without the image's name, short enough for a table cell."""

    def __init__(self, reason: str, where: str = "image") -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason
        self.where = where

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        # Ray sends exceptions between processes; the default would rebuild it from the joined message.
        return type(self), (self.reason, self.where)


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What `read_image` accepts, checked against the header before any pixel is decoded."""

    max_pixels: int = 100_000_000
    """Largest width x height, in pixels (3 bytes each once decoded); at most 178,956,970."""
    min_side_px: int = 2
    """Smallest width and height, in pixels."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= _PILLOW_CEILING_PX:
            raise InputError(f"max_pixels: {self.max_pixels} is outside 1..{_PILLOW_CEILING_PX}")
        if self.min_side_px < 1:
            raise InputError(f"min_side_px: {self.min_side_px} must be at least 1")


DEFAULT_LIMITS = ImageLimits()


def read_image(source: str | os.PathLike[str] | bytes, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode one image file, or the bytes of one, to uint8 RGB of shape (H, W, 3).

    The EXIF orientation is applied, 16-bit samples become 8-bit ones, grey, palette and CMYK become RGB, transparent
    parts are laid on white, and of an animation the first frame is taken. A path is a local file, never a URL.

    Raises:
        ImageError: missing, empty, truncated, not an image, outside `limits`, or samples without a known range.
    """
    where = "image bytes" if isinstance(source, bytes) else os.fspath(source)
    with _open(source, where) as image:
        _check_size(image, limits, where)
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image, where)
        except ImageError:
            raise
        except _DECODE_ERRORS as error:
            raise ImageError(f"damaged or truncated: {_one_line(error)}", where) from error
        except MemoryError as error:
            raise ImageError(f"not enough memory to decode {image.width}x{image.height} pixels", where) from error


def image_bytes(uri: str) -> bytes:
    """The bytes of an image file by path or URI. ImageError when it cannot be read."""
    try:
        return locate(uri).read_bytes()
    except (InputError, OSError) as error:
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise ImageError(f"cannot be read ({reason})", uri) from error


def image_id(data: bytes) -> str:
    """Short name of an image file by its content, 16 hex digits: the same wherever it lies, whatever it is called."""
    return hashlib.sha256(data).hexdigest()[:16]


def list_images(path_or_glob: str) -> list[str]:
    """Image files of a folder (with its sub-folders), of a glob pattern, or one file; sorted by path.

    Folders and patterns give only files with a suffix in `IMAGE_SUFFIXES`, hidden files left out; a file named
    directly is taken as it is.

    Raises:
        InputError: nothing was found.
    """
    if os.path.isfile(path_or_glob):
        return [path_or_glob]
    if os.path.isdir(path_or_glob):
        found = sorted(path for path in _walk(path_or_glob) if _looks_like_image(path))
        place = "folder"
    else:
        matches = glob.glob(path_or_glob, recursive=True)
        found = sorted(path for path in matches if os.path.isfile(path) and _looks_like_image(path))
        place = "file, folder or pattern"
    if not found:
        raise InputError(f"{path_or_glob}: no image found; give a {place} with files ending in {_suffix_list()}")
    return found


def evenly_chosen(folder: str, count: int) -> list[str]:
    """At most `count` of a folder's images, evenly from its sorted list. InputError for none, or for count < 1."""
    paths = list_images(folder)
    if count < 1:
        raise InputError(f"{count} photos: use 1 or more")
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, count).round().astype(int))]


@contextlib.contextmanager
def _open(source: str | os.PathLike[str] | bytes, where: str) -> Iterator[Image.Image]:
    if isinstance(source, bytes):
        size_bytes = len(source)
    elif not os.path.exists(source):
        raise ImageError("no such file", where)
    elif not os.path.isfile(source):
        raise ImageError("not a file", where)
    else:
        size_bytes = os.path.getsize(source)
    if size_bytes == 0:
        raise ImageError("empty file (zero bytes)", where)
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large: {_one_line(error)}", where) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError("not an image in a known format", where) from error
    except PermissionError as error:
        raise ImageError("no permission to read it", where) from error
    except _DECODE_ERRORS as error:
        raise ImageError(f"unreadable header: {_one_line(error)}", where) from error
    with image:
        yield image


def _check_size(image: Image.Image, limits: ImageLimits, where: str) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(f"too large: {width}x{height} is more than {limits.max_pixels} pixels", where)
    if min(width, height) < limits.min_side_px:
        raise ImageError(f"too small: {width}x{height}, the shortest side must be {limits.min_side_px} px", where)


def _to_rgb(image: Image.Image, where: str) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _wide_grey_to_rgb(np.asarray(image), where)
    if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, with_alpha)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _wide_grey_to_rgb(grey: np.ndarray, where: str) -> np.ndarray:
    if np.issubdtype(grey.dtype, np.floating) or grey.min() < 0 or grey.max() > _MAX_UINT16:
        raise ImageError("32-bit samples have no known white; convert it to 8 or 16 bits", where)
    eight_bit = ((grey.astype(np.uint32) * 255 + _MAX_UINT16 // 2) // _MAX_UINT16).astype(np.uint8)
    return np.repeat(eight_bit[:, :, None], 3, axis=2)


def _walk(folder: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(root, name) for name in files)


def _looks_like_image(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _suffix_list() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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

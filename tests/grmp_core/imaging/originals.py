"""Small intact files in every format and layout that is decoded, to be damaged."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from grmp_core.imaging.readers import READERS
from tests.grmp_core.imaging import pictures, profiles

HEIGHT, WIDTH = 40, 56


def _animation(fmt: str) -> bytes:
    """Two frames. Images are new ones: an encoder leaves its settings in them."""
    first = Image.fromarray(pictures.photo(HEIGHT, WIDTH))
    return pictures.encoded(first, fmt, save_all=True, append_images=[first.rotate(180)])


@functools.cache
def originals() -> Mapping[str, bytes]:
    """Name -> file. A name begins with the format."""
    photo = pictures.photo(HEIGHT, WIDTH)
    image = Image.fromarray(photo)
    alpha = np.dstack([photo, photo[..., 0]])
    wide = photo.astype(np.uint16) * 257
    grey, colour = pictures.grey_tags(HEIGHT, WIDTH, 16), pictures.colour_tags(HEIGHT, WIDTH, 16)
    told = pictures.exif([pictures.orientation_entry(6), (271, 2, 6, b"\x26\x00\x00\x00")], rest=b"Maker\x00")
    encoded, profile = pictures.encoded, profiles.rgb_profile(profiles.P3)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = to_lab.apply(image)
    files = {
        "jpeg": encoded(photo, "JPEG", exif=told),
        "jpeg-progressive": encoded(photo, "JPEG", progressive=True),
        "jpeg-profile": encoded(photo, "JPEG", icc_profile=profile),
        "jpeg-grey": encoded(photo[..., 0], "JPEG"),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "jpeg-mpo": _animation("MPO"),
        "png": encoded(photo, "PNG", exif=told),
        "png-profile": encoded(photo, "PNG", icc_profile=profile),
        "png-pq": pictures.png_of(photo, 2, 8, (b"cICP", bytes([9, 16, 0, 1]))),
        "png-alpha": encoded(alpha, "PNG"),
        "png-palette": encoded(image.quantize(16), "PNG", transparency=3),
        "png-grey-16": pictures.png_of(wide[..., :1], 0, 16, (b"tRNS", b"\x01\x01")),
        "png-colour-16": pictures.png_of(wide, 2, 16),
        "png-animated": _animation("PNG"),
        "gif-animated": _animation("GIF"),
        "bmp": encoded(photo, "BMP"),
        "bmp-palette": encoded(image.quantize(16), "BMP"),
        "dib": encoded(photo, "DIB"),
        "ppm": encoded(photo, "PPM"),
        "pgm-16-plain": b"P2 4 3 1000\n" + b" ".join(b"%d" % (i * 80) for i in range(12)),
        "pbm": encoded(image.convert("1"), "PPM"),
        "webp": encoded(photo, "WEBP", exif=told),
        "webp-profile": encoded(photo, "WEBP", icc_profile=profile),
        "webp-lossless": encoded(alpha, "WEBP", lossless=True),
        "webp-animated": _animation("WEBP"),
        "avif": encoded(photo, "AVIF", exif=told),
        "avif-profile": encoded(photo, "AVIF", icc_profile=profile),
        "avif-alpha": encoded(alpha, "AVIF"),
        "avif-animated": _animation("AVIF"),
        "jp2": encoded(photo, "JPEG2000"),
        "j2k-16": encoded(Image.fromarray(wide[..., 0]), "JPEG2000", no_jp2=True),
        "tiff-12": pictures.tiff_of([pictures.twelve_bits(wide[..., 0] >> 4)], pictures.grey_tags(HEIGHT, WIDTH, 12)),
        "tiff-16-white-is-zero": pictures.tiff_of(
            [wide[..., 0].astype(">u2").tobytes()], grey | {262: (pictures.SHORT, [0])}, ">"
        ),
        "tiff-16-planes": pictures.tiff_of(
            [wide[..., i].tobytes() for i in range(3)], colour | {284: (pictures.SHORT, [2])}
        ),
        "tiff-1": encoded(image.convert("1"), "TIFF", compression="group4"),
        "tiff-profile": encoded(photo, "TIFF", icc_profile=profile),
        "tiff-lab": encoded(lab, "TIFF"),
        "tiff-palette": encoded(image.quantize(16), "TIFF"),
        "tiff-pages": _animation("TIFF"),
        "tiff-big": encoded(photo, "TIFF", big_tiff=True),
    }
    for compression in ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"):
        files[f"tiff-{compression}"] = encoded(photo, "TIFF", compression=compression)
    if "HEIC" in READERS:
        files |= {f"heic-{file.stem}": file.read_bytes() for file in Path(__file__).parent.glob("files/*.heic")}
    if "JPEG XL" in READERS:
        encode = importlib.import_module("imagecodecs").jpegxl_encode
        files |= {"jxl": bytes(encode(photo)), "jxl-16": bytes(encode(wide, lossless=True, usecontainer=True))}
    return files

"""Metadata do no harm: of all that files tell about themselves only the orientation matters."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import read_image
from tests.grmp_core.imaging import pictures

TYPES = range(14)
"""All of TIFF's types of values, and two that do not exist."""
HARMLESS_TAGS = (256, 271, 282, 305, 306, 532, 700, 34665, 34853, 37500, 40965, 50341)
"""Sizes, names, times, numbers, and pointers to more directories."""


@pytest.fixture(autouse=True)
def no_warnings():
    """Warnings of Pillow stay inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def containers():
    """Name -> a picture in a format, and what puts EXIF into it."""
    photo = pictures.photo()
    jpeg, png = pictures.encoded(photo, "JPEG", quality=95), pictures.encoded(photo, "PNG")
    webp = pictures.encoded(photo, "WEBP", lossless=True)
    return {
        "JPEG": (jpeg, lambda exif: pictures.jpeg_with_exif(jpeg, exif)),
        "PNG": (png, lambda exif: pictures.png_with_chunk(png, b"eXIf", exif)),
        "WebP": (webp, lambda exif: pictures.webp_with_exif(webp, 56, 40, exif)),
    }


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_no_tag_of_any_type_changes_a_picture_or_its_orientation(containers, name, order):
    plain, with_exif = containers[name]
    expected = pictures.upright(read_image(plain), 6)
    values = (bytes(4), struct.pack(f"{order}L", 38), b"\xff\xff\xff\xff")
    for tag in HARMLESS_TAGS:
        for kind in TYPES:
            for count, value in zip((1, 20, 2**31), values, strict=True):
                entries = sorted([(tag, kind, count, value), pictures.orientation_entry(6, order)])
                data = with_exif(pictures.exif(entries, order, rest=bytes(range(64))))
                np.testing.assert_array_equal(read_image(data), expected)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientations_turn_the_picture_and_others_do_not(containers, name, orientation):
    plain, with_exif = containers[name]
    for order in "<>":
        for kind in (pictures.SHORT, pictures.LONG):
            data = with_exif(pictures.exif([pictures.orientation_entry(orientation, order, kind)], order))
            np.testing.assert_array_equal(read_image(data), pictures.upright(read_image(plain), orientation))


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"II*",
        b"II*\x00\xff\xff\xff\xff",
        b"MM\x00*\x00\x00\x00\x08\xff\xff",
        b"nothing of the kind at all",
        pictures.exif([(pictures.ORIENTATION, pictures.RATIONAL, 1, b"\x08")]),
        pictures.exif([(pictures.ORIENTATION, 2, 2, b"6")]),
        pictures.exif([(pictures.ORIENTATION, pictures.SHORT, 0, b"\x06")]),
        pictures.exif([pictures.orientation_entry(6)])[:-12],
    ],
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP"])
def test_exif_that_tells_no_orientation_leaves_the_picture_as_it_is(containers, name, metadata):
    plain, with_exif = containers[name]
    np.testing.assert_array_equal(read_image(with_exif(metadata)), read_image(plain))


def test_avif_is_turned_by_its_own_boxes_whatever_its_exif_holds():
    photo = pictures.photo()
    told = pictures.exif([pictures.orientation_entry(6)], rest=b"Maker".ljust(40))
    plain, data = pictures.encoded(photo, "AVIF"), pictures.encoded(photo, "AVIF", exif=told)
    np.testing.assert_array_equal(read_image(data), pictures.upright(read_image(plain), 6))
    other = pictures.encoded(photo, "AVIF", exif=pictures.exif([(271, 2, 6, b"\x1a\x00\x00\x00")], rest=b"Maker\x00"))
    at = other.index(b"II*\x00")
    for kind in TYPES:
        odd = bytearray(other)
        odd[at + 12 : at + 14] = struct.pack("<H", kind)
        np.testing.assert_array_equal(read_image(bytes(odd)), read_image(plain))


def test_an_orientation_in_a_pngs_texts_counts_where_exif_has_none():
    png = pictures.encoded(pictures.photo(), "PNG")
    turned = pictures.upright(pictures.photo(), 6)
    digits = (b"Exif\x00\x00" + pictures.exif([pictures.orientation_entry(6)])).hex().encode()
    profile = b"Raw profile type exif\x00\nexif\n      32\n" + digits + b"\n"
    xmp = b'XML:com.adobe.xmp\x00\x00\x00\x00\x00<x tiff:Orientation="6"/>'
    for name, text in ((b"tEXt", profile), (b"iTXt", xmp)):
        np.testing.assert_array_equal(read_image(pictures.png_with_chunk(png, name, text)), turned)
    told = pictures.png_with_chunk(png, b"eXIf", pictures.exif([pictures.orientation_entry(1)]))
    np.testing.assert_array_equal(read_image(pictures.png_with_chunk(told, b"iTXt", xmp)), pictures.photo())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"gAMA", b"\x00"),
        (b"cHRM", b"short"),
        (b"pHYs", b"\x00"),
        (b"iCCP", b"profile\x00\x07"),
        (b"zTXt", b"key\x00\x01text"),
        (b"tEXt", b"transparency\x00text"),
        (b"tEXt", b"interlace\x001"),
        (b"tEXt", b"Raw profile type exif\x00\n\n\nno digits"),
        (b"zTXt", b"bomb\x00\x00" + zlib.compress(bytes(2**21))),
        (b"prVt", b"anything"),
    ],
)
def test_no_other_chunk_of_a_png_changes_the_picture(name, data):
    png = pictures.encoded(pictures.photo(), "PNG")
    damaged = bytearray(pictures.png_with_chunk(png, name, data))
    np.testing.assert_array_equal(read_image(bytes(damaged)), pictures.photo())
    damaged[33 + 8] ^= 1  # its checksum is wrong, too
    np.testing.assert_array_equal(read_image(bytes(damaged)), pictures.photo())


def test_a_checksum_counts_where_pixels_depend_on_it():
    png = bytearray(pictures.png_of(np.zeros((8, 8, 1)), 0, 8, (b"tRNS", b"\x00\x00")))
    png[33 + 8] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        read_image(bytes(png))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", [270, 282, 296, 305, 700, 34665, 34675, 34853])
def test_no_tag_of_a_tiff_without_pixels_changes_the_picture(order, tag):
    photo = pictures.photo()
    tags = pictures.colour_tags(40, 56, 8) | {pictures.ORIENTATION: (pictures.SHORT, [6])}
    for kind in TYPES:
        for count, value in ((1, 7), (20, 3), (3, 2**32 - 1), (2**31, 8)):
            junk = struct.pack(f"{order}HHLL", tag, kind, count, value)
            data = pictures.tiff_of([photo.tobytes()], tags, order, [junk])
            np.testing.assert_array_equal(read_image(data), pictures.upright(photo, 6))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_is_turned_once(orientation, compression):
    photo = pictures.photo()
    data = pictures.encoded(photo, "TIFF", compression=compression, tiffinfo={pictures.ORIENTATION: orientation})
    np.testing.assert_array_equal(read_image(data), pictures.upright(photo, orientation))


def test_a_preview_in_a_cameras_raw_file_is_not_taken_for_the_picture():
    photo = pictures.photo()
    for junk in (struct.pack("<HHLL", 254, 4, 1, 1), struct.pack("<HHL4B", 50706, 1, 4, 1, 4, 0, 0)):
        with pytest.raises(ImageError, match="raw data of a camera"):
            read_image(pictures.tiff_of([photo.tobytes()], pictures.colour_tags(40, 56, 8), junk=[junk]))

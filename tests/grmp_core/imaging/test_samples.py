"""Samples of more, and of fewer, than 8 bits."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from grmp_core.errors import ImageError
from grmp_core.imaging import samples as depths
from grmp_core.imaging.decoding import decode_image, read_image
from tests.grmp_core.imaging import pictures

HEIGHT, WIDTH = 24, 36
MAX_SAMPLE_VALUE, SAMPLE_FORMAT, PLANES, EXTRA_SAMPLES, COMPRESSION = 281, 339, 284, 338, 259
SHORT = pictures.SHORT


def drawn(channels: int, largest: int = 65535) -> np.ndarray:
    """Samples of all sizes up to the largest, which is among them."""
    rng = np.random.default_rng(channels)
    samples = rng.integers(0, largest + 1, (HEIGHT, WIDTH, channels))
    samples[0, 0], samples[0, 1] = largest, 0
    return samples


def rounded(samples: np.ndarray, white: int = 65535) -> np.ndarray:
    """The nearest of 256 levels, RGB."""
    return np.broadcast_to(np.rint(samples * 255 / white), (HEIGHT, WIDTH, 3)).astype(np.uint8)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha / 65535
    return rounded(colour * opacity + 65535 * (1 - opacity))


def bytes_of(samples: np.ndarray, order: str = "<") -> bytes:
    return samples.astype(f"{order}u2").tobytes()


@pytest.mark.parametrize("photometric", [0, 1])
def test_12_bit_tiff(photometric):
    grey = drawn(1, 4095)
    data = pictures.tiff_of([pictures.twelve_bits(grey[..., 0])], pictures.grey_tags(HEIGHT, WIDTH, 12, photometric))
    np.testing.assert_array_equal(read_image(data), rounded(grey if photometric else 4095 - grey, 4095))
    assert decode_image(data).notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_tiff_in_which_white_is_zero(order, compressed):
    grey = drawn(1)
    tags = pictures.grey_tags(HEIGHT, WIDTH, 16, 0) | ({COMPRESSION: (SHORT, [8])} if compressed else {})
    strip = bytes_of(grey, order)
    data = pictures.tiff_of([zlib.compress(strip) if compressed else strip], tags, order)
    np.testing.assert_array_equal(read_image(data), rounded(65535 - grey))


def test_16_bit_grey_with_a_transparent_level():
    grey = drawn(1)
    grey[3:9, 5:20], grey[10] = 777, 778  # the same 8-bit level
    data = pictures.png_of(grey, 0, 16, (b"tRNS", (777).to_bytes(2, "big")))
    expected = rounded(grey).copy()
    expected[grey[..., 0] == 777] = 255
    np.testing.assert_array_equal(read_image(data), expected)


@pytest.mark.parametrize(("bits", "levels"), [(2, 4), (4, 16)])
def test_grey_of_few_bits_with_a_transparent_level(bits, levels):
    grey = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) % levels
    expected = rounded(grey, levels - 1).copy()
    expected[grey[..., 0] == 1] = 255
    np.testing.assert_array_equal(read_image(pictures.png_of(grey, 0, bits, (b"tRNS", b"\x00\x01"))), expected)


def test_16_bit_colour_png():
    colour = drawn(3)
    np.testing.assert_array_equal(read_image(pictures.png_of(colour, 2, 16)), rounded(colour))
    seen = rounded(colour).copy()
    seen[5, 7] = 255
    hidden = colour[5, 7].astype(">u2").tobytes()
    np.testing.assert_array_equal(read_image(pictures.png_of(colour, 2, 16, (b"tRNS", hidden))), seen)


def test_16_bit_alpha_png():
    colour, alpha = drawn(3), drawn(1)[:, ::-1]
    for samples, kind in ((colour, 6), (colour[..., :1], 4)):
        decoded = read_image(pictures.png_of(np.concatenate([samples, alpha], axis=2), kind, 16))
        assert np.abs(decoded.astype(int) - on_white(samples, alpha)).max() <= 1
        assert (decoded == on_white(samples, alpha)).mean() > 0.99


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colour_tiff(order, compressed):
    for channels in (3, 4):
        samples = drawn(channels)
        tags = pictures.colour_tags(HEIGHT, WIDTH, 16, channels)
        tags |= {COMPRESSION: (SHORT, [8])} if compressed else {}
        strip = bytes_of(samples, order)
        decoded = read_image(pictures.tiff_of([zlib.compress(strip) if compressed else strip], tags, order))
        expected = rounded(samples) if channels == 3 else on_white(samples[..., :3], samples[..., 3:])
        assert np.abs(decoded.astype(int) - expected).max() <= channels - 3
        assert (decoded == expected).mean() > 0.99


def test_16_bit_colour_times_opacity():
    alpha = drawn(1)
    samples = np.concatenate([drawn(3) * alpha // 65535, alpha], axis=2)
    tags = pictures.colour_tags(HEIGHT, WIDTH, 16, 4) | {EXTRA_SAMPLES: (SHORT, [1])}
    decoded = read_image(pictures.tiff_of([bytes_of(samples)], tags))
    np.testing.assert_array_equal(decoded, rounded(samples[..., :3] + 65535 - alpha))


@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colours_in_planes(compressed):
    colour = drawn(3)
    planes = [bytes_of(colour[..., i]) for i in range(3)]
    tags = pictures.colour_tags(HEIGHT, WIDTH, 16) | {PLANES: (SHORT, [2])}
    tags |= {COMPRESSION: (SHORT, [8])} if compressed else {}
    decoded = read_image(pictures.tiff_of([zlib.compress(plane) if compressed else plane for plane in planes], tags))
    assert np.abs(decoded.astype(int) - rounded(colour)).max() <= 1


@pytest.mark.parametrize(("told", "white"), [(1023, 1023), (4095, 4095), (3000, 65535), (1, 65535)])
def test_tiffs_largest_sample_counts_where_it_names_a_number_of_bits(told, white):
    told_tag = {MAX_SAMPLE_VALUE: (SHORT, [told])}
    for channels, tags in ((1, pictures.grey_tags(HEIGHT, WIDTH, 16)), (3, pictures.colour_tags(HEIGHT, WIDTH, 16))):
        samples = drawn(channels, min(white, 1023))
        image = decode_image(pictures.tiff_of([bytes_of(samples)], tags | told_tag))
        np.testing.assert_array_equal(image[:, :], rounded(samples, white))
        assert bool(image.notes) == (white == 65535)


def test_signed_samples_have_half_the_range_and_no_negative_ones():
    tags = pictures.grey_tags(HEIGHT, WIDTH, 16) | {SAMPLE_FORMAT: (SHORT, [2])}
    grey = drawn(1, 32767)
    np.testing.assert_array_equal(read_image(pictures.tiff_of([bytes_of(grey)], tags)), rounded(grey, 32767))
    with pytest.raises(ImageError, match="no known white"):
        read_image(pictures.tiff_of([bytes_of(grey - 1)], tags))


@pytest.mark.parametrize(
    ("largest", "bits"), [(255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, None), (0, None)]
)
def test_16_bit_files_that_use_few_bits_are_noted(largest, bits):
    grey, colour = drawn(1, largest), drawn(3, largest)
    alpha = np.full((HEIGHT, WIDTH, 1), 65535)
    files = [
        pictures.png_of(grey, 0, 16),
        pictures.png_of(colour, 2, 16),
        pictures.png_of(np.concatenate([grey, alpha], axis=2), 4, 16),
        pictures.png_of(np.concatenate([colour, alpha], axis=2), 6, 16),
        pictures.tiff_of([bytes_of(grey, ">")], pictures.grey_tags(HEIGHT, WIDTH, 16), ">"),
        pictures.tiff_of([bytes_of(colour)], pictures.colour_tags(HEIGHT, WIDTH, 16)),
    ]
    expected = (f"samples use only {bits} of 16 bits; scored as 16-bit",) if bits else ()
    for data in files:
        assert decode_image(data).notes == expected


def test_files_of_8_bits_are_not_noted():
    dark = np.ones((HEIGHT, WIDTH, 3), np.uint8)
    for fmt in ("PNG", "TIFF", "BMP", "JPEG", "WEBP"):
        assert decode_image(pictures.encoded(dark, fmt)).notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_is_that_part_of_the_whole(orientation):
    told = pictures.exif([pictures.orientation_entry(orientation)])
    alpha = np.concatenate([drawn(3) >> 8, drawn(1) >> 8], axis=2).astype(np.uint8)
    files = [
        pictures.encoded(alpha, "PNG"),
        pictures.encoded(alpha[..., :3], "JPEG"),
        pictures.png_of(drawn(1), 0, 16),
        pictures.png_of(drawn(4), 6, 16),
    ]
    sides = (slice(None), slice(0, 1), slice(3, 20), slice(20, 24), slice(-9, -2), slice(9, 9), slice(20, 99))
    for data in files:
        with_exif = pictures.jpeg_with_exif if data[:2] == b"\xff\xd8" else _png_with_exif
        image = decode_image(with_exif(data, told))
        whole = pictures.upright(read_image(data), orientation)
        assert image.shape == whole.shape
        for rows, columns in itertools.product(sides, sides):
            region = image[rows, columns]
            assert region.flags.writeable
            np.testing.assert_array_equal(region, whole[rows, columns])


@pytest.mark.parametrize("band_px", [1, 7, 100])
def test_bands_of_any_size_make_the_same_picture(band_px, monkeypatch):
    files = [pictures.png_of(drawn(channels), kind, 16) for channels, kind in ((1, 0), (3, 2), (4, 6))]
    expected = [(read_image(data), decode_image(data).notes) for data in files]
    monkeypatch.setattr(depths, "_BAND_PX", band_px)
    for data, (pixels, notes) in zip(files, expected, strict=True):
        np.testing.assert_array_equal(read_image(data), pixels)
        assert decode_image(data).notes == notes


def _png_with_exif(png: bytes, metadata: bytes) -> bytes:
    return pictures.png_with_chunk(png, b"eXIf", metadata)

"""HEIC and JPEG XL with the extra `formats`. The HEIC files hold `pictures.photo(64, 96)`, made with pillow-heif."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image, read_image
from grmp_core.imaging.extra_readers import JXL_NOTE, jxl_header
from grmp_core.imaging.kinds import kind_of_head
from tests.grmp_core.imaging import pictures

FILES = Path(__file__).with_name("files")
PHOTO = pictures.photo(64, 96)


def heic(name: str) -> bytes:
    pytest.importorskip("pi_heif")
    return (FILES / name).read_bytes()


def jxl(pixels: np.ndarray, **options) -> bytes:
    return bytes(pytest.importorskip("imagecodecs").jpegxl_encode(pixels, lossless=True, effort=1, **options))


@pytest.mark.parametrize("name", ["turned.heic", "ten_bits.heic"])
def test_heic_is_decoded_upright(name):
    data = heic(name)
    assert kind_of_head(data) == "HEIC"
    assert np.abs(read_image(data).astype(int) - PHOTO).mean() < 1
    assert decode_image(data).notes == ()


def test_heic_in_pq_takes_the_tone_curve():
    data = heic("ten_bits_pq.heic")
    as_it_is = read_image(data, ImageLimits(colour_profiles=False))
    assert np.abs(as_it_is.astype(int) - PHOTO).mean() < 1
    toned = read_image(data)
    assert (toned[as_it_is.min(axis=2) > 200] >= 250).all()  # beyond the reference white
    assert np.abs(toned.astype(int) - as_it_is).mean() > 10


def test_a_decoded_heic_outlives_its_file():
    image = decode_image(heic("turned.heic"))
    before = image[:, :]
    for _ in range(20):
        read_image(heic("ten_bits.heic"))
    np.testing.assert_array_equal(image[:, :], before)


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (64, 96), (37, 100), (200, 300), (33, 900), (480, 641)])
def test_a_jpeg_xl_header_is_read_before_its_pixels(shape, container):
    data = jxl(pictures.photo(*shape), usecontainer=container)
    header = jxl_header(data)
    assert (header.height, header.width) == shape
    assert header.bits in (8, None)
    np.testing.assert_array_equal(read_image(data), pictures.photo(*shape))
    with pytest.raises(ImageError, match="too large"):
        read_image(data, ImageLimits(max_pixels=shape[0] * shape[1] - 1))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_wide_samples_are_scaled_by_the_depth_that_the_header_names(bits):
    wide = np.random.default_rng(0).integers(0, 1 << bits, (20, 30, 3)).astype(np.uint16)
    data = jxl(wide, bitspersample=bits)
    assert jxl_header(data).bits == bits
    np.testing.assert_array_equal(read_image(data), np.rint(wide * (255 / ((1 << bits) - 1))))


def test_grey_and_alpha():
    np.testing.assert_array_equal(read_image(jxl(PHOTO[..., 0])), np.dstack([PHOTO[..., 0]] * 3))
    alpha = np.dstack([PHOTO, PHOTO[..., 0]])
    expected = read_image(pictures.encoded(alpha, "PNG")).astype(int)
    assert np.abs(read_image(jxl(alpha)) - expected).max() <= 1


def test_what_is_not_read_is_a_note():
    assert decode_image(jxl(PHOTO)).notes == (JXL_NOTE,)
    assert decode_image(jxl(PHOTO), ImageLimits(colour_profiles=False)).notes == ()


def test_floats_are_refused():
    with pytest.raises(ImageError, match="32-bit samples"):
        read_image(jxl(PHOTO.astype(np.float32) / 255))


@pytest.mark.parametrize("make", [lambda: heic("turned.heic"), lambda: jxl(PHOTO)], ids=["HEIC", "JPEG XL"])
def test_any_damage_is_an_image_or_an_image_error(make):
    data, rng = make(), np.random.default_rng(0)
    outcomes = set()
    for number in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(256)
        try:
            read_image(bytes(damaged[: len(data) - (number % 3) * 50]), ImageLimits(max_pixels=1_000_000))
            outcomes.add("image")
        except ImageError as error:
            outcomes.add("refused" if error.reason.isprintable() else error.reason)
    assert outcomes == {"image", "refused"}

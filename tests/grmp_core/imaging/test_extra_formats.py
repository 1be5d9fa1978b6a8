"""HEIC and JPEG XL with the extra `formats`.

The HEIC files hold `pictures.photo(64, 96)`, made with pillow-heif; those in JPEG XL `pictures.photo(32, 48)`, made by
cjxl 0.7: `-d 0` with the profile of Display P3, `-d 0.3` with it, and `-d 0 -x color_space=RGB_D65_202_Rel_PeQ`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image, read_image
from grmp_core.imaging.extra_readers import JXL_NOTE, jxl_header
from grmp_core.imaging.kinds import kind_of_head
from tests.grmp_core.imaging import pictures, profiles

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
    # imagecodecs says of wide samples that they are linear light.
    found = read_image(data, ImageLimits(colour_profiles=False))
    np.testing.assert_array_equal(found, np.rint(wide * (255 / ((1 << bits) - 1))))


def test_linear_light_keeps_its_depth_in_the_dark():
    """imagecodecs says of samples of 16 bits that they are linear light."""
    pytest.importorskip("jxlpy")
    light = np.linspace(0, 0.05, 4096)
    codes = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    wide = np.repeat(np.rint(65535 * light).astype(np.uint16).reshape(64, 64, 1), 3, axis=2)
    found = read_image(jxl(wide))[..., 0].ravel()
    assert np.abs(found - 255 * codes).max() <= 1
    assert len(np.unique(found)) == np.rint(255 * codes[-1]) + 1


def test_grey_and_alpha():
    np.testing.assert_array_equal(read_image(jxl(PHOTO[..., 0])), np.dstack([PHOTO[..., 0]] * 3))
    alpha = np.dstack([PHOTO, PHOTO[..., 0]])
    expected = read_image(pictures.encoded(alpha, "PNG")).astype(int)
    assert np.abs(read_image(jxl(alpha)) - expected).max() <= 1


def jxl_file(name: str) -> bytes:
    for package in ("imagecodecs", "jxlpy"):
        pytest.importorskip(package)
    return (FILES / name).read_bytes()


def test_the_profile_of_a_jpeg_xl_file_is_applied_as_that_of_a_png():
    photo, profile = pictures.photo(32, 48), profiles.rgb_profile(profiles.P3)
    expected = read_image(pictures.encoded(photo, "PNG", icc_profile=profile))
    assert np.abs(expected.astype(int) - photo).max() > 10
    image = decode_image(jxl_file("display_p3.jxl"))
    np.testing.assert_array_equal(image[:, :], expected)
    assert image.notes == ()
    np.testing.assert_array_equal(read_image(jxl_file("display_p3.jxl"), ImageLimits(colour_profiles=False)), photo)
    # A lossy file keeps no profile, only its white and primaries as numbers.
    assert np.abs(read_image(jxl_file("display_p3_lossy.jxl")).astype(int) - expected).mean() <= 1.5
    assert np.abs(photo.astype(int) - expected).mean() >= 3


def test_jpeg_xl_in_pq_takes_the_tone_curve():
    photo = pictures.photo(32, 48)
    expected = read_image(pictures.png_of(photo, 2, 8, (b"cICP", bytes([9, 16, 0, 1]))))
    np.testing.assert_array_equal(read_image(jxl_file("pq.jxl")), expected)


def test_profiles_that_are_not_read_are_a_note(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jxlpy" else found(name))
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

"""Colours against closed forms: matrices of primaries, the curves of sRGB, PQ and HLG."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grmp_core.imaging import colour
from grmp_core.imaging.colour import UNREADABLE, UNSUITABLE, tone
from grmp_core.imaging.decoding import ImageLimits, decode_image, read_image
from tests.grmp_core.imaging import pictures, profiles
from tests.grmp_core.imaging.pictures import encoded

AS_IT_IS = ImageLimits(colour_profiles=False)
P3 = profiles.rgb_profile(profiles.P3)
PHOTO = pictures.photo()


def light_of(codes: np.ndarray) -> np.ndarray:
    x = codes / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def codes_of(light: np.ndarray) -> np.ndarray:
    x = np.clip(light, 0, 1)
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def in_srgb(codes: np.ndarray, primaries=profiles.P3) -> np.ndarray:
    """sRGB codes, not rounded, of colours with sRGB's curve and other primaries."""
    matrix = np.linalg.inv(profiles.to_xyz(profiles.SRGB)) @ profiles.to_xyz(primaries)
    return codes_of(light_of(codes.astype(float)) @ matrix.T)


def test_the_colours_of_display_p3_become_srgb_s():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = read_image(encoded(pixels, "PNG", icc_profile=P3))
    assert np.abs(found - in_srgb(pixels)).max() <= 2  # LittleCMS counts in 16 bits, and rounds more than once
    assert np.abs(found.astype(int) - pixels).max() > 20


@pytest.mark.parametrize(
    ("fmt", "options"),
    [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {"quality": 95}), ("PNG", {})],
)
def test_the_profile_of_every_format_is_applied_and_can_be_passed_over(fmt, options):
    plain = read_image(encoded(PHOTO, fmt, **options))
    with_profile = encoded(PHOTO, fmt, icc_profile=P3, **options)
    np.testing.assert_array_equal(read_image(with_profile, AS_IT_IS), plain)
    applied = read_image(with_profile)
    assert np.abs(applied - in_srgb(plain)).max() <= 2
    assert decode_image(with_profile).notes == ()


def test_regions_and_turns_are_those_of_the_whole():
    told = pictures.exif([pictures.orientation_entry(6)])
    image = decode_image(encoded(PHOTO, "PNG", icc_profile=P3, exif=told))
    whole = image[:, :]
    np.testing.assert_array_equal(whole, pictures.upright(read_image(encoded(PHOTO, "PNG", icc_profile=P3)), 6))
    np.testing.assert_array_equal(image[5:20, 7:31], whole[5:20, 7:31])


@pytest.mark.parametrize("profile", [profiles.rgb_profile(profiles.SRGB), profiles.rgb_profile(profiles.SRGB, 2.2)])
def test_a_profile_of_srgb_changes_no_pixel_and_another_curve_does(profile):
    plain, found = read_image(encoded(PHOTO, "PNG")), read_image(encoded(PHOTO, "PNG", icc_profile=profile))
    is_srgb = profile == profiles.rgb_profile(profiles.SRGB)
    assert (found == plain).all() == is_srgb


def test_grey_follows_the_curve_of_its_profile():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encoded(ramp, "PNG", icc_profile=profiles.grey_profile(1.8))
    expected = codes_of((ramp / 255.0) ** 1.8)
    assert np.abs(read_image(data) - expected[..., None]).max() <= 2


def test_inks_follow_their_profile():
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:4, :, 0], inks[4:, :, 3] = 255, 255
    image = Image.frombytes("CMYK", (8, 8), inks.tobytes())
    data = encoded(image, "TIFF", icc_profile=profiles.cmyk_profile())
    found = read_image(data).astype(int)
    assert np.abs(found[0, 0] - (0, 255, 255)).max() <= 12  # cyan; L*a*b* of 8 bits is coarse
    assert np.abs(found[-1, 0] - (0, 0, 0)).max() <= 12
    np.testing.assert_array_equal(read_image(data, AS_IT_IS), read_image(encoded(image, "TIFF")))


def test_wide_samples_are_converted_after_they_are_rounded():
    wide = np.random.default_rng(0).integers(0, 65536, (20, 30, 3))
    packed = b"p\0\0" + zlib.compress(P3)
    found = read_image(pictures.png_of(wide, 2, 16, (b"iCCP", packed)))
    eight = read_image(pictures.png_of(wide, 2, 16))
    assert np.abs(found - in_srgb(eight)).max() <= 2


@pytest.mark.parametrize(
    ("profile", "note"),
    [
        (b"no profile at all", UNREADABLE),
        (P3[:200], UNREADABLE),
        (P3[:300] + bytes(len(P3) - 300), UNREADABLE),
        (profiles.grey_profile(2.2), UNSUITABLE),
        (profiles.cmyk_profile(), UNSUITABLE),
        (P3 + bytes(colour._MAX_PROFILE_BYTES), UNREADABLE),
    ],
)
def test_a_profile_that_cannot_be_applied_is_a_note_and_the_picture_is_as_without(profile, note):
    image = decode_image(encoded(PHOTO, "WEBP", lossless=True, icc_profile=profile))
    np.testing.assert_array_equal(image[:, :], PHOTO)
    assert image.notes == (note,)
    assert decode_image(encoded(PHOTO, "WEBP", lossless=True, icc_profile=profile), AS_IT_IS).notes == ()


def test_a_tiff_s_profile_outside_its_file_is_none():
    junk = struct.pack("<HHLL", 34675, 7, 500, 10_000_000)
    tags = pictures.colour_tags(*PHOTO.shape[:2], 8)
    np.testing.assert_array_equal(read_image(pictures.tiff_of([PHOTO.tobytes()], tags, junk=[junk])), PHOTO)


def test_a_png_s_profile_that_unpacks_to_gigabytes_is_a_note():
    bomb = b"p\0\0" + zlib.compress(bytes(2**26))
    image = decode_image(pictures.png_with_chunk(encoded(PHOTO, "PNG"), b"iCCP", bomb))
    assert image.notes == (UNREADABLE,)


# --- the numbers of H.273 --------------------------------------------------------------------------------------------


def png_by_numbers(pixels: np.ndarray, primaries: int, transfer: int, bits: int = 8) -> bytes:
    return pictures.png_of(pixels, 2, bits, (b"cICP", bytes([primaries, transfer, 0, 1])))


def test_primaries_named_by_number_are_those_of_a_profile():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.abs(read_image(png_by_numbers(pixels, 12, 13)) - in_srgb(pixels)).max() <= 0.55
    for primaries, transfer in ((1, 13), (2, 2), (1, 1), (200, 13)):
        np.testing.assert_array_equal(read_image(png_by_numbers(pixels, primaries, transfer)), pixels)
    np.testing.assert_array_equal(read_image(png_by_numbers(pixels, 12, 13), AS_IT_IS), pixels)


@pytest.mark.parametrize(("transfer", "code"), [(16, 0.5807), (18, 0.75)])
def test_reference_white_is_where_bt_2408_has_it(transfer, code):
    """58 % of PQ and 75 % of HLG, on grey, are 203 cd/m²."""
    grey = np.full((4, 4, 3), round(code * 65535))
    expected = codes_of(np.array(tone(np.array(1.0))))
    assert np.abs(read_image(png_by_numbers(grey, 9, transfer, 16)).astype(float) - expected).max() <= 1


def test_pq_below_the_knee_is_light_in_proportion():
    """ST 2084's own formula, in the direction in which it is published: from light to codes."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 128 * 2523 / 4096, 3424 / 4096, 32 * 2413 / 4096, 32 * 2392 / 4096
    cd_m2 = np.linspace(0, 0.69 * 203, 300)
    y = (cd_m2 / 10_000) ** m1
    codes = np.rint(65535 * ((c1 + c2 * y) / (1 + c3 * y)) ** m2).astype(int)
    grey = np.repeat(codes.reshape(15, 20, 1), 3, axis=2)
    expected = codes_of(cd_m2 / 203).reshape(15, 20, 1)
    assert np.abs(read_image(png_by_numbers(grey, 9, 16, 16)) - expected).max() <= 0.6


def test_hlg_below_the_knee_is_bt_2100_s_light():
    """E = code²/3 below one half; on a screen of 1000 cd/m², grey E is 1000 E^1.2 cd/m²."""
    codes = np.arange(0, 32768, 128).reshape(16, 16, 1)
    grey = np.repeat(codes, 3, axis=2)
    expected = codes_of(1000 * ((codes / 65535) ** 2 / 3) ** 1.2 / 203)
    assert np.abs(read_image(png_by_numbers(grey, 9, 18, 16)) - expected).max() <= 0.6


@given(st.floats(0, 60), st.floats(1e-6, 1))
def test_the_tone_curve_rises_and_stays_on_the_screen(light, more):
    low, high = tone(np.array([light, light + more]))
    assert 0 <= low <= high <= 1
    if light <= 0.7:
        assert low == light


def test_the_tone_curve_has_no_corner():
    step = 1e-5
    slopes = np.diff(tone(np.array([0.7 - step, 0.7, 0.7 + step]))) / step
    assert slopes == pytest.approx([1, 1], abs=1e-3)


def test_bright_colours_keep_their_proportions():
    codes = np.array([[[60000, 50000, 40000]]]).repeat(4, axis=0).repeat(4, axis=1)
    (r, g, b) = light_of(read_image(png_by_numbers(codes, 1, 16, 16))[0, 0])
    light = colour._light_of_codes(16, 65535)[codes[0, 0]]
    assert (g / r, b / r) == pytest.approx((light[1] / light[0], light[2] / light[0]), rel=0.05)
    assert max(r, g, b) > 0.9


def test_an_avif_names_its_numbers():
    plain = encoded(PHOTO, "AVIF", quality=95)
    at = plain.index(b"colrnclx") + 8
    changed = plain[:at] + bytes([0, 12, 0, 13]) + plain[at + 4 :]
    assert np.abs(read_image(changed) - in_srgb(read_image(plain))).max() <= 0.55


@pytest.mark.parametrize(
    ("of_file", "of_profile", "meant"),
    [
        ((2, 2), (9, 16), (9, 16)),  # as libavif writes it beside a profile
        ((2, 2), (9, 18), (9, 18)),
        ((12, 2), (9, 16), (9, 16)),
        ((12, 2), (2, 16), (12, 16)),
        ((9, 16), (12, 13), (9, 16)),
        ((12, 16), (9, 18), (12, 16)),
    ],
)
def test_an_avif_that_leaves_its_transfer_function_open_has_that_of_its_profile(of_file, of_profile, meant):
    def avif(numbers: tuple[int, int], **options: bytes) -> bytes:
        plain = encoded(PHOTO, "AVIF", quality=95, **options)
        at = plain.index(b"colrnclx") + 8
        return plain[:at] + struct.pack(">HH", *numbers) + plain[at + 4 :]

    found = read_image(avif(of_file, icc_profile=profiles.rgb_profile(profiles.P3, numbers=of_profile)))
    np.testing.assert_array_equal(found, read_image(avif(meant)))
    assert np.abs(found.astype(int) - read_image(avif((1, 13)))).max() > 20


def test_primaries_without_a_transfer_function_leave_a_picture_to_its_profile():
    plain = encoded(PHOTO, "AVIF", quality=95, icc_profile=P3)
    at = plain.index(b"colrnclx") + 8
    assert plain[at : at + 4] == bytes([0, 2, 0, 2])
    named = plain[:at] + bytes([0, 12, 0, 2]) + plain[at + 4 :]
    np.testing.assert_array_equal(read_image(named), read_image(plain))

"""The small files that once went wrong, each as it is to come out; others of their kinds are made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import decode_image, read_image
from grmp_core.imaging.views import ViewConfig, scoring_views
from tests.grmp_core.imaging import pictures

shared = pytest.mark.shared_data


def pixels_of(path: Path) -> np.ndarray:
    """As Pillow has them, without a look at EXIF."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@shared
@pytest.mark.parametrize("name", ["rational.jpg", "text_number.jpg", "fuzz-AttributeError-20.webp"])
def test_shared_exif_is_passed_over_but_for_the_orientation(shared_cases, name):
    path = shared_cases / "exif" / name
    np.testing.assert_array_equal(read_image(path), pictures.upright(pixels_of(path), 6))


@shared
def test_shared_damage_is_an_image_error(shared_cases):
    with pytest.raises(ImageError, match="Failed to decode"):
        read_image(shared_cases / "avif" / "damaged_sector.avif")


@shared
def test_shared_tiff_whose_strip_has_a_place_of_a_wrong_type_is_read(shared_cases):
    """The strip is the rest of the file, from where the entry says."""
    path = shared_cases / "exif" / "fuzz-TypeError-12.lab.tif"
    strip = np.frombuffer(path.read_bytes()[140:], np.uint8)
    np.testing.assert_array_equal(read_image(path), strip.reshape(40, 56, 3))


@shared
def test_shared_wide_samples(shared_cases):
    folder = shared_cases / "wide_samples"
    expected = read_image(folder / "the_same_picture.png")
    for name in ("grey_12_bits.tif", "white_is_zero_16.tif"):
        np.testing.assert_array_equal(read_image(folder / name), expected)
    with Image.open(folder / "grey16_transparent.png") as image:
        samples, hidden = np.asarray(image), image.info["transparency"]
    grey = np.rint(samples / 257).astype(np.uint8)
    grey[samples == hidden] = 255
    assert (grey == 255).any()
    np.testing.assert_array_equal(read_image(folder / "grey16_transparent.png"), np.dstack([grey] * 3))


@shared
def test_shared_strip_is_decoded_and_not_enlarged(shared_cases):
    strip = decode_image(shared_cases / "strips" / "strip_2x600000.png")
    with pytest.raises(ImageError, match="too thin"):
        scoring_views(strip, ViewConfig(), 224)


def test_damaged_avif_is_an_image_or_an_image_error():
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    data = pictures.encoded(noise, "AVIF")
    reasons = []
    for first in range(data.index(b"mdat"), len(data), 256):
        damaged = data[:first] + bytes(512) + data[first + 512 :]
        try:
            assert read_image(damaged).shape == (96, 128, 3)
        except ImageError as error:
            reasons.append(error.reason)
    assert any("Failed to decode" in reason for reason in reasons)


@pytest.mark.parametrize("kind", [0, 2, 5, 11, 12, 700])
def test_a_tiff_whose_strip_has_a_place_of_another_type_is_read_where_it_is(kind):
    photo = pictures.photo()
    data = bytearray(pictures.tiff_of([photo.tobytes()], pictures.colour_tags(*photo.shape[:2], 8)))
    at = data.index(b"\x11\x01\x04\x00")  # StripOffsets, a LONG
    data[at + 2 : at + 4] = kind.to_bytes(2, "little")
    np.testing.assert_array_equal(read_image(bytes(data)), photo)
    data[at + 8 : at + 12] = len(data).to_bytes(4, "little")
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_image(bytes(data))


def test_a_tiff_whose_many_strips_have_places_of_another_type_is_an_image_error():
    photo = pictures.photo()
    tags = pictures.colour_tags(*photo.shape[:2], 8) | {278: (pictures.SHORT, [20])}
    data = bytearray(pictures.tiff_of([photo[:20].tobytes(), photo[20:].tobytes()], tags))
    np.testing.assert_array_equal(read_image(bytes(data)), photo)
    at = data.index(b"\x11\x01\x04\x00")
    data[at + 2 : at + 4] = b"\x0b\x00"
    with pytest.raises(ImageError):
        read_image(bytes(data))

"""Estimators against images whose damage is known, and measures against a reference against closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.restoration import estimate_sigma

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.explain.measurements import MAX_SIDE_PX, blocking, measure, middle_of
from grmp_core.explain.references import IDENTICAL_PSNR_DB, compare
from grmp_core.explain.remedies import REMEDIES
from grmp_core.procedural import scenes


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return scenes.reference(5, 192, 256)


def test_noise_is_measured_in_grey_levels():
    rng = np.random.default_rng(0)
    for sigma in (4, 12):
        noisy = np.clip(np.round(rng.normal(128, sigma, (256, 256, 3))), 0, 255).astype(np.uint8)
        measured = measure(noisy).noise_sigma
        assert measured == pytest.approx(sigma, rel=0.05)
        assert measured == pytest.approx(estimate_sigma(noisy, channel_axis=2, average_sigmas=True), rel=1e-3)


def test_blur_and_its_measures_move_together(scene):
    values = [measure(get("gaussian_blur")(scene, level, np.random.default_rng(0))) for level in (1.0, 3.0, 5.0)]
    assert values[0].blur < values[1].blur < values[2].blur
    assert values[0].laplacian_variance > values[1].laplacian_variance > values[2].laplacian_variance


def test_blocks_are_found_wherever_they_begin(scene):
    damaged = get("jpeg")(scene, 5.0, np.random.default_rng(0))
    grey = cv2.cvtColor(damaged, cv2.COLOR_RGB2GRAY)
    assert blocking(grey) > 1.5 > blocking(cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY))
    assert blocking(grey[3:, 5:]) == pytest.approx(blocking(grey), rel=0.1)
    assert blocking(np.full((32, 32), 7, np.uint8)) == 1


@given(value=st.integers(0, 255))
def test_flat_grey_image_has_closed_values(value: int):
    found = measure(np.full((40, 40, 3), value, np.uint8))
    assert found.mean_luma == value
    assert (found.contrast, found.noise_sigma, found.blocking, found.blur) == (0, 0, 1, 1)
    assert found.colourfulness == pytest.approx(0, abs=1e-9)
    assert found.colour_cast == pytest.approx(0, abs=0.2)  # CIE L*a*b* in single precision
    assert (found.dark_share, found.bright_share) == (float(value <= 8), float(value >= 247))


def test_tiny_images_lack_only_what_needs_room():
    found = measure(np.full((4, 300, 3), 9, np.uint8)).as_dict()
    assert {name for name, value in found.items() if np.isnan(value)} == {"blur", "noise_sigma", "blocking"}


def test_middle_part_of_a_large_image_keeps_the_blocks():
    image = np.arange(1400 * 1200, dtype=np.uint32).reshape(1400, 1200, 1).repeat(3, axis=2)
    part = middle_of(image)
    assert part.shape == (MAX_SIDE_PX, MAX_SIDE_PX, 3)
    top, left = divmod(int(part[0, 0, 0]), 1200)
    assert top % 8 == left % 8 == 0


def test_equal_images_have_the_best_values(scene):
    found = compare(scene, scene)
    assert found.psnr_db == IDENTICAL_PSNR_DB
    assert found.ssim == pytest.approx(1)
    assert found.gmsd == pytest.approx(0)
    assert found.colour_difference == pytest.approx(0)


def test_psnr_of_a_constant_difference(scene):
    darker = np.maximum(scene, 10) - 10
    assert compare(darker, darker + 10).psnr_db == pytest.approx(20 * np.log10(255 / 10))


@pytest.mark.parametrize("name", ["gaussian_blur", "jpeg", "white_noise"])
def test_more_damage_is_farther_from_the_reference(scene, name: str):
    weak, strong = (compare(get(name)(scene, level, np.random.default_rng(0)), scene) for level in (1.0, 5.0))
    assert strong.psnr_db < weak.psnr_db
    assert strong.ssim < weak.ssim
    assert strong.gmsd > weak.gmsd


def test_reference_of_another_size_is_one_line(scene):
    with pytest.raises(InputError, match=r"the reference has 255x192 pixels and the image 256x192; give"):
        compare(scene, scene[:, 1:])


@pytest.mark.parametrize("group", REMEDIES)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_repairs_keep_size_and_type_of_any_image(group: str, value: int):
    image = np.full((24, 30, 3), value, np.uint8)
    repaired = REMEDIES[group].apply(image)
    assert repaired.shape == image.shape
    assert repaired.dtype == np.uint8
    assert (image == value).all()


@pytest.mark.parametrize(("name", "group"), [("white_noise", "noise"), ("darken", "brightness")])
def test_a_repair_brings_the_image_nearer_to_its_reference(scene, name: str, group: str):
    damaged = get(name)(scene, 5.0, np.random.default_rng(0))
    repaired = REMEDIES[group].apply(damaged)
    assert compare(repaired, scene).psnr_db > compare(damaged, scene).psnr_db

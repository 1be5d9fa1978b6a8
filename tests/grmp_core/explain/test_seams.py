"""Seams that are planted in noise, by closed forms and symmetries."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grmp_core.explain.seams import seam_statistics, tone_statistics

SIZE = 64
CHANNELS, EXTENTS, VALUES = 3, 3, 5
STEP, PROMINENCE, AGREEMENT, PLACE, PRODUCT = range(VALUES)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(120, 4, (SIZE, SIZE, 3)).clip(0, 255)


def statistics(*images: np.ndarray) -> np.ndarray:
    """(C, direction, extent, value, channel)"""
    found = seam_statistics(np.stack([np.rint(image) for image in images]).astype(np.uint8))
    return found.reshape(len(images), 2, EXTENTS, VALUES, CHANNELS)


@given(column=st.integers(4, SIZE - 4), step=st.sampled_from([-30, -12, 12, 30]), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_planted_seam_is_found_where_it_is(column: int, step: int, seed: int):
    image = noise(seed)
    image[:, column:] += step
    brightness = statistics(image)[0, 0, 0, :, 0]
    assert brightness[PLACE] == pytest.approx(column / SIZE)
    assert brightness[STEP] == pytest.approx(step / 255, abs=0.012)
    assert np.sign(brightness[PROMINENCE]) == np.sign(brightness[AGREEMENT]) == np.sign(step)
    assert abs(brightness[AGREEMENT]) > 0.9
    assert brightness[PRODUCT] == pytest.approx(brightness[PLACE] * brightness[AGREEMENT])


def test_a_seam_along_half_of_the_crop_is_that_of_its_extent():
    image = noise()
    image[: SIZE // 2, 20:] += 25
    along_all, above, below = statistics(image)[0, 0, :, STEP, 0]
    assert above == pytest.approx(25 / 255, abs=0.01)
    assert along_all == pytest.approx(above / 2, abs=0.01)
    assert abs(below) < 0.02


def test_rows_and_columns_are_treated_alike():
    image = noise()
    image[:, 30:, 0] -= 18
    upright, lying = statistics(image, image.swapaxes(0, 1))
    np.testing.assert_allclose(upright, lying[::-1], atol=1e-6)


def test_a_soft_edge_of_the_same_height_sticks_out_less():
    sharp, soft = noise(), noise()
    sharp[:, 32:] += 20
    soft += 20 / (1 + np.exp(-(np.arange(SIZE)[None, :, None] - 32) / 3))
    hard_edge, soft_edge = statistics(sharp, soft)[:, 0, 0, PROMINENCE, 0]
    assert hard_edge > soft_edge + 1


def test_colour_alone_makes_a_seam_of_colour():
    image = noise()
    image[:, 40:] += (16, -16, 0)
    brightness, red_green, _ = statistics(image)[0, 0, 0, STEP]
    assert abs(brightness) < 0.01
    assert red_green == pytest.approx(32 / 255, abs=0.015)


def test_a_flat_crop_has_no_seam():
    assert np.all(statistics(np.full((SIZE, SIZE, 3), 90.0))[..., [STEP, PROMINENCE, AGREEMENT], :] == 0)


def test_tones_are_quantiles_mean_and_spread_of_grey():
    crop = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    tones = tone_statistics(crop[None])[0]
    grey = crop.mean(axis=2) / 255
    assert tones[3] == pytest.approx(np.median(grey), abs=1e-6)
    assert tones[-2] == pytest.approx(grey.mean(), abs=1e-6)
    assert tones[-1] == pytest.approx(grey.std(), abs=1e-6)
    darker = tone_statistics(cv2.LUT(crop, (np.arange(256) // 2).astype(np.uint8))[None])[0]
    assert np.all(darker < tones)

"""Attributes of a picture: each moves with what it is named after, and own quality with all of them."""

import cv2
import numpy as np
import pytest

from grmp_core.labels.own_quality import ATTRIBUTES, OWN_RANGE, UNDISTORTED_QUALITY, attributes, own_quality
from grmp_core.nano.captions import ATTRIBUTE_PAIRS
from grmp_core.procedural.scenes import reference

DETAIL, BRIGHTNESS, COLOUR = range(len(ATTRIBUTES))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return reference(3, 256, 320)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return attributes(after) - attributes(before)


def test_every_attribute_has_its_captions():
    assert len(ATTRIBUTE_PAIRS) == len(ATTRIBUTES)


def test_blur_takes_detail_and_leaves_brightness(photo):
    change = changed(photo, cv2.GaussianBlur(photo, (0, 0), 2))
    assert change[DETAIL] < -0.1
    assert change[BRIGHTNESS] == pytest.approx(0, abs=0.01)


def test_light_is_brightness_and_grey_has_no_colour(photo):
    assert changed(photo, (photo * 0.6).astype(np.uint8))[BRIGHTNESS] < -0.1
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert attributes(grey)[COLOUR] == 0
    assert changed(photo, grey)[BRIGHTNESS] == pytest.approx(0, abs=0.01)


def test_slopes_and_straight_edges_are_no_detail():
    slope = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    edge = np.zeros((256, 256, 3), np.uint8)
    edge[:, 128:] = 255
    assert attributes(np.ascontiguousarray(slope))[DETAIL] == 0
    assert attributes(edge)[DETAIL] == 0


def test_one_sharp_twentieth_counts_and_less_does_not():
    flat = np.full((320, 320, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    little, more = flat.copy(), flat.copy()
    little[:32, :48], more[:96, :96] = noise[:32, :48], noise[:96, :96]  # 6 and 36 of 400 squares
    assert attributes(little)[DETAIL] == 0
    assert attributes(more)[DETAIL] == 1


def test_colourfulness_is_that_of_hasler_and_susstrunk():
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, :32, 0], halves[:, 32:, 2] = 60, 30
    # red - green: 60 and 0; (red + green) / 2 - blue: 30 and -30
    expected = np.hypot(30, 30) + 0.3 * np.hypot(30, 0)
    assert attributes(halves)[COLOUR] == pytest.approx((np.log(expected + 3) - 2) / 2.5)


def test_own_quality_is_linear_between_its_ends():
    assert own_quality(np.ones(3)) == pytest.approx(UNDISTORTED_QUALITY)
    assert own_quality(np.zeros(3)) == pytest.approx(UNDISTORTED_QUALITY - OWN_RANGE)
    assert own_quality(np.full(3, 0.5)) == pytest.approx(UNDISTORTED_QUALITY - OWN_RANGE / 2)

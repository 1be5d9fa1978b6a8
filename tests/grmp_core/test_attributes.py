"""Attributes of a picture: each moves with what it is named after, and own quality with all of them."""

import cv2
import numpy as np
import pytest

from grmp_core.attributes import ATTRIBUTES, CURVES, ENDS, attributes, curves, measures, own_quality
from grmp_core.attributes_fit import NUM_KNOTS, fit_curve
from grmp_core.calibration import PRISTINE_QUALITY, combined_quality
from grmp_core.captions import ATTRIBUTE_PAIRS
from grmp_core.errors import InputError
from grmp_core.references import reference

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
    assert measures(halves)[COLOUR] == pytest.approx(np.log(expected + 3))
    poor, rich = ENDS[COLOUR]
    assert attributes(halves)[COLOUR] == pytest.approx((np.log(expected + 3) - poor) / (rich - poor))


def test_own_quality_falls_with_softness_and_with_bad_light_and_not_with_paleness(photo):
    as_it_is = own_quality(photo)
    assert 0.6 < as_it_is < PRISTINE_QUALITY
    for worse in (
        cv2.GaussianBlur(photo, (0, 0), 2),
        (photo * 0.3).astype(np.uint8),
        cv2.add(photo // 2, np.full_like(photo, 120)),
    ):
        assert own_quality(worse) < as_it_is - 0.1
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert own_quality(grey) == pytest.approx(as_it_is, abs=0.01)


@pytest.mark.parametrize(("luma", "curve"), [(60, "dimness"), (200, "glare")])
def test_own_quality_of_a_sharp_picture_is_what_its_light_leaves(luma, curve):
    noise = np.random.default_rng(0).integers(-50, 51, (256, 256, 1))
    picture = np.broadcast_to(luma + noise, (256, 256, 3)).astype(np.uint8)
    detail, brightness, _ = measures(picture)
    assert detail > max(curves()["softness"][0])
    light = float(np.interp(brightness, *curves()[curve]))
    assert own_quality(picture) == pytest.approx(combined_quality([PRISTINE_QUALITY, light]))
    assert own_quality(picture) == pytest.approx(light)


def test_curves_are_monotone_and_end_at_an_undamaged_picture():
    assert set(CURVES.values()) < set(ATTRIBUTES)
    for name, (found, qualities) in curves().items():
        falling = name == "glare"
        assert np.all(np.diff(found) > 0)
        assert np.all(np.diff(qualities) * (-1 if falling else 1) >= 0)
        assert min(qualities) > 0
        assert qualities[0 if falling else -1] == pytest.approx(PRISTINE_QUALITY)


def test_a_fitted_curve_is_the_mean_quality_along_the_measure():
    rng = np.random.default_rng(0)
    measure = rng.permutation(np.linspace(0, 1, 100 * NUM_KNOTS))
    found, qualities = fit_curve(measure, 0.2 + 0.5 * measure, rising=True)
    middles = (np.arange(NUM_KNOTS) + 0.5) / NUM_KNOTS
    np.testing.assert_allclose(found, middles, atol=1e-3)
    expected = 0.2 + 0.5 * middles
    np.testing.assert_allclose(qualities, expected / expected[-1] * PRISTINE_QUALITY, atol=1e-3)


def test_too_few_pictures_make_no_curve():
    with pytest.raises(InputError, match="6 pictures"):
        fit_curve(np.arange(6.0), np.arange(6.0), rising=True)


def test_a_fitted_curve_against_its_direction_is_flat():
    measure = np.linspace(0, 1, 100)
    _, qualities = fit_curve(measure, 1 - measure, rising=True)
    np.testing.assert_allclose(qualities, PRISTINE_QUALITY)

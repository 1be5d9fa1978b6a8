"""Labels by picture: the measure, the curve, and what a label may and may not do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from grmp_core.distortions import REGISTRY, get
from grmp_core.errors import InputError
from grmp_core.labels.fit_visibility import fit_curve, fit_strength
from grmp_core.labels.human_means import quality_of, spreads
from grmp_core.labels.visibility import MEASURES, STRENGTH, Appearance, curves, quality_of_picture
from grmp_core.procedural import scenes

CELLS = st.tuples(st.sampled_from(sorted(REGISTRY)), st.floats(1, 5))


def grey(value: int, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), value, dtype=np.uint8)


def test_the_difference_of_two_greys_is_their_distance_in_lightness():
    lightness = [cv2.cvtColor(np.full((1, 1, 3), v / 255, np.float32), cv2.COLOR_RGB2LAB)[0, 0, 0] for v in (100, 140)]
    expected = lightness[1] - lightness[0]
    assert Appearance(grey(100)).differences(grey(140)) == pytest.approx((expected, 0), abs=0.01)
    assert Appearance(grey(100)).differences(grey(100)) == pytest.approx((0, 0), abs=1e-6)


def test_what_the_eye_blends_does_not_count():
    checks = np.where(np.indices((64, 64)).sum(axis=0) % 2, 90, 110).astype(np.uint8)
    fine = np.repeat(checks[:, :, None], 3, axis=2)
    coarse = np.kron(fine[:4, :4], np.ones((16, 16, 1), np.uint8))
    appearance = Appearance(grey(100))
    assert appearance.differences(fine)[0] < 1 < appearance.differences(coarse)[0]


def test_structure_is_the_published_measure():
    """GMSD by SciPy and plain NumPy, from its definition."""
    first = scenes.reference(1, 64, 80)
    second = get("jpeg")(first, 4.0, np.random.default_rng(0))

    def magnitude(image):
        grey = cv2.cvtColor(cv2.resize(image, (40, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        kernel = np.outer([1, 1, 1], [1, 0, -1]) / 3
        parts = [ndimage.correlate(grey.astype(float), k, mode="mirror") for k in (kernel, kernel.T)]
        return np.hypot(*parts)

    a, b = magnitude(first), magnitude(second)
    expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()
    assert Appearance(first).differences(second)[1] == pytest.approx(expected, rel=1e-4)


def test_the_difference_grows_with_the_level():
    picture = scenes.reference(3, 128, 128)
    levels = [
        Appearance(picture).differences(get("colour_block")(picture, level, np.random.default_rng(0)))
        for level in (1.0, 5.0)
    ]
    assert all(mild < strong for mild, strong in zip(*levels, strict=True))


@given(cell=CELLS, colours=st.tuples(st.floats(0, 60), st.floats(0, 60)), structure=st.floats(0, 0.4))
def test_more_visible_never_gives_a_better_label(cell, colours, structure):
    low, high = ((colour, structure) for colour in sorted(colours))
    assert 1 >= quality_of_picture(*cell, low) >= quality_of_picture(*cell, high) >= 0


@given(cell=CELLS)
def test_the_label_stays_within_the_type_s_own_range_around_its_mean(cell):
    name, severity = cell
    span = max(max(curve.qualities) - min(curve.qualities) for curve in curves()[name].values())
    for differences in ((0.0, 0.0), (1e3, 1.0)):
        moved = quality_of_picture(name, severity, differences) - quality_of(name, severity)
        assert abs(moved) <= STRENGTH * span + 1e-3


def test_the_fit_expects_what_its_own_pictures_show():
    """So that a cell keeps its mean, deviations from what is expected add up to nothing."""
    rng = np.random.default_rng(0)
    differences = np.array([0.5, 2.0, 4.0, 7.0, 9.0])[:, None] + rng.normal(0, 0.3, (5, 400))
    curve, predicted = fit_curve("jpeg", differences)
    assert predicted == pytest.approx(curve.quality_at(differences))
    for level in range(5):
        deviations = [curve.deviation(level + 1.0, difference) for difference in differences[level]]
        assert abs(np.mean(deviations)) < 1e-12


def test_every_type_has_a_curve_that_falls():
    assert set(curves()) == set(REGISTRY)
    for name, by_measure in curves().items():
        assert tuple(by_measure) == MEASURES
        for curve in by_measure.values():
            order = np.argsort(curve.differences, kind="stable")
            assert np.all(np.diff(np.array(curve.qualities)[order]) <= 1e-9), name


def test_the_strength_is_recovered_from_spreads_alone():
    """Scores simulated with a known strength and rater noise: second moments give the strength back."""
    rng = np.random.default_rng(0)
    means = rng.uniform(0.1, 0.9, (25, 5))
    predicted = rng.uniform(0, 0.02, (25, 5))
    human = 0.6**2 * predicted + 0.04 * means * (1 - means) + 0.001
    assert fit_strength(predicted, human, means) == pytest.approx(0.6**2)


def test_spreads_are_those_of_the_published_tables():
    assert spreads()["gaussian_blur"][0] == pytest.approx(0.1304 / 4)
    assert set(spreads()) == set(REGISTRY)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 9), (33, 17), (64, 64)])
def test_any_size_can_be_compared(shape):
    low, high = (np.full((*shape, 3), value, np.uint8) for value in (50, 200))
    assert Appearance(low).differences(high)[0] == pytest.approx(
        Appearance(grey(50)).differences(grey(200))[0], rel=1e-3
    )


def test_bad_input_is_named():
    with pytest.raises(InputError, match="jpeg"):
        quality_of_picture("jpeg200", 1, (1.0, 0.1))
    with pytest.raises(InputError, match="outside"):
        quality_of_picture("jpeg", 9, (1.0, 0.1))

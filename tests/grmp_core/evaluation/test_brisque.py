"""BRISQUE's fits against distributions with known parameters, its normalization against SciPy's filters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.evaluation.brisque import (
    NUM_FEATURES,
    brisque_features,
    fit_asymmetric,
    fit_generalized_gaussian,
    normalized_luminance,
)
from grmp_core.procedural.scenes import reference


@pytest.mark.parametrize(("shape", "scale"), [(1.0, 2.0), (2.0, 0.5), (0.6, 1.0)])
def test_symmetric_fit_finds_shape_and_variance(shape, scale):
    values = stats.gennorm(shape, scale=scale).rvs(200_000, random_state=0)
    actual, variance = fit_generalized_gaussian(values)
    assert actual == pytest.approx(shape, rel=0.03)
    assert variance == pytest.approx(stats.gennorm(shape, scale=scale).var(), rel=0.05)


def test_asymmetric_fit_finds_the_two_sides_of_a_split_normal():
    rng = np.random.default_rng(0)
    left, right = 0.5, 2.0
    size = np.abs(rng.standard_normal(400_000))
    on_left = rng.random(400_000) < left / (left + right)  # makes the density continuous at zero
    shape, mean, left_variance, right_variance = fit_asymmetric(np.where(on_left, -left * size, right * size))
    assert shape == pytest.approx(2.0, rel=0.05)
    assert (left_variance, right_variance) == pytest.approx((left**2, right**2), rel=0.03)
    assert mean == pytest.approx((right - left) * np.sqrt(2 / np.pi), rel=0.03)


def test_normalized_luminance_is_scipys_gaussian_filter():
    field = np.random.default_rng(0).uniform(0, 255, (40, 50)).astype(np.float32)
    smooth = lambda x: ndimage.gaussian_filter(x.astype(np.float64), 7 / 6, radius=3, mode="mirror")  # noqa: E731
    deviation = np.sqrt(np.maximum(smooth(field**2) - smooth(field) ** 2, 0))
    np.testing.assert_allclose(normalized_luminance(field), (field - smooth(field)) / (deviation + 1), atol=1e-3)


def test_noise_makes_the_normalized_luminance_more_gaussian_and_blur_less_varied():
    picture = reference(3)
    clean = brisque_features(picture)
    noisy = brisque_features(get("white_noise")(picture, 5, np.random.default_rng(0)))
    blurred = brisque_features(get("gaussian_blur")(picture, 4, np.random.default_rng(0)))
    assert clean.shape == (NUM_FEATURES,)
    assert noisy[0] > clean[0]
    assert blurred[1] < clean[1]


@pytest.mark.parametrize("value", [0, 255])
def test_a_flat_picture_gives_finite_numbers(value):
    assert np.isfinite(brisque_features(np.full((20, 30, 3), value, np.uint8))).all()


def test_a_picture_too_small_is_refused():
    with pytest.raises(InputError, match="14 px"):
        brisque_features(np.zeros((13, 40, 3), np.uint8))

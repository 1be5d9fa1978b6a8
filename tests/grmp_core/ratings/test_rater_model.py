"""The model of raters: made-up raters come back, alike ones give the mean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.ratings.grades import Grades
from grmp_core.ratings.rater_model import fit_rater_model


def grades(values_IR: np.ndarray) -> Grades:
    images, raters = values_IR.shape
    return Grades(
        images=tuple(f"i{i}" for i in range(images)), raters=tuple(f"r{r}" for r in range(raters)), values_IR=values_IR
    )


def test_made_up_raters_come_back():
    rng = np.random.default_rng(0)
    quality_I = rng.uniform(1, 5, 5000)
    bias_R = np.array([-0.6, -0.1, 0.0, 0.2, 0.5])
    inconsistency_R = np.array([0.2, 0.4, 0.6, 0.8, 1.5])
    values_IR = quality_I[:, None] + bias_R + rng.normal(size=(5000, 5)) * inconsistency_R
    values_IR[rng.random((5000, 5)) < 0.2] = np.nan
    values_IR[:, 0] = np.where(np.isnan(values_IR).all(axis=1), quality_I + bias_R[0], values_IR[:, 0])
    model = fit_rater_model(grades(values_IR))
    np.testing.assert_allclose(model.bias_R, bias_R, atol=0.06)
    np.testing.assert_allclose(model.inconsistency_R, inconsistency_R, rtol=0.15)
    mean_error = np.std(np.nanmean(values_IR - bias_R, axis=1) - quality_I)
    assert np.std(model.quality_I - quality_I) < 0.75 * mean_error


def test_equals_the_mean_for_alike_raters():
    """Residuals that are rotations of one row: no bias, equal noise, zero mean on every image."""
    residual = np.array([0.3, -0.5, 0.4, -0.2])
    quality_I = np.array([1.5, 4.0, 3.0, 2.5])
    values_IR = quality_I[:, None] + np.stack([np.roll(residual, i) for i in range(4)])
    model = fit_rater_model(grades(values_IR))
    np.testing.assert_allclose(model.quality_I, quality_I, atol=1e-8)
    np.testing.assert_allclose(model.bias_R, 0, atol=1e-8)
    np.testing.assert_allclose(model.inconsistency_R, np.std(residual, ddof=1), atol=1e-6)
    np.testing.assert_allclose(model.stderr_I, stats.sem(residual), atol=1e-6)


def test_who_always_presses_three_weighs_less():
    rng = np.random.default_rng(1)
    quality_I = rng.uniform(1, 5, 200)
    careful_IR = quality_I[:, None] + rng.normal(size=(200, 3)) * 0.4
    model = fit_rater_model(grades(np.column_stack([careful_IR, np.full(200, 3.0)])))
    assert model.inconsistency_R[3] > 2 * model.inconsistency_R[:3].max()


def test_raters_who_agree_on_everything_are_finite():
    model = fit_rater_model(grades(np.array([[1.0, 1.0], [4.0, 4.0]])))
    np.testing.assert_allclose(model.quality_I, [1, 4])
    assert np.isfinite(model.stderr_I).all()


def test_raters_without_a_common_image_are_named():
    values_IR = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, 3.0]])
    with pytest.raises(InputError, match=r"2 parts.*rater r0 \| i2, rater r1"):
        fit_rater_model(grades(values_IR))
    with pytest.raises(InputError, match="no grades"):
        fit_rater_model(grades(np.full((2, 2), np.nan)))

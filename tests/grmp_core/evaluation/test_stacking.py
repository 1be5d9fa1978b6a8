"""Weights of an ensemble: against SciPy's constrained least squares, and where one model is perfect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from grmp_core.errors import InputError
from grmp_core.evaluation.stacking import stacking_weights


def made_up(seed: int, images: int = 30, models: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    quality_N = rng.random(images)
    return quality_N[:, None] + rng.normal(0, rng.uniform(0.05, 0.3, models), (images, models)), quality_N


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_they_are_the_least_squares_on_the_simplex(seed):
    predicted_NM, quality_N = made_up(seed)
    weights_M = stacking_weights(predicted_NM, quality_N)
    assert (weights_M >= 0).all()
    assert weights_M.sum() == pytest.approx(1)

    def loss(w: np.ndarray) -> float:
        return float(((predicted_NM @ w - quality_N) ** 2).sum())

    sum_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=sum_to_one, method="SLSQP", tol=1e-12)
    assert loss(weights_M) <= best.fun + 1e-6


@pytest.mark.parametrize("learned", [0.0, 0.3])
def test_a_perfect_model_is_the_ensemble_also_where_it_has_learned_from_some(learned):
    predicted_NM, quality_N = made_up(1)
    predicted_NM[:, 2] = quality_N
    predicted_NM[np.random.default_rng(2).random(predicted_NM.shape) < learned] = np.nan
    np.testing.assert_allclose(stacking_weights(predicted_NM, quality_N), [0, 0, 1, 0], atol=1e-9)


def test_a_model_that_is_known_on_few_images_does_not_seem_better_for_it():
    """Two models of equal errors; one is judged on every fifth image."""
    rng = np.random.default_rng(0)
    quality_N = rng.random(4000)
    predicted_NM = quality_N[:, None] + rng.normal(0, 0.2, (4000, 2))
    predicted_NM[np.arange(4000) % 5 > 0, 1] = np.nan
    np.testing.assert_allclose(stacking_weights(predicted_NM, quality_N), [0.5, 0.5], atol=0.05)


def test_a_model_that_has_learned_from_everything_cannot_be_judged():
    predicted_NM, quality_N = made_up(3)
    predicted_NM[:, 1] = np.nan
    with pytest.raises(InputError, match="model 1 of the ensemble has learned from every image"):
        stacking_weights(predicted_NM, quality_N)

"""The logistic map against curves that it was made from, and against the straight line."""

import warnings

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.evaluation import logistic_map
from grmp_core.evaluation.logistic_map import FitWarning, fit_logistic
from grmp_core.evaluation.metrics import evaluate, plcc, rmse
from tests.grmp_core.evaluation.noisy_logistic import noisy_logistic


@pytest.mark.parametrize("parameters", [4, 5])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_fit_finds_the_curve_it_was_made_from(parameters: int, scale: float) -> None:
    x = np.linspace(0, 1, 100) * scale
    if parameters == 4:
        y = 70 / (1 + np.exp(-(x / scale - 0.4) / 0.1)) + 15
    else:
        y = 50 * (0.5 - 1 / (1 + np.exp(8 * (x / scale - 0.5)))) + 10 * x / scale + 30
    fit = fit_logistic(x, y, parameters)
    assert fit.converged
    assert len(fit.params) == parameters
    np.testing.assert_allclose(fit(x), y, atol=1e-3)


def test_four_parameters_mean_what_is_written() -> None:
    x = np.linspace(-3, 5, 80)
    y = (9 - 2) / (1 + np.exp(-(x - 1) / 0.5)) + 2
    b1, b2, b3, b4 = fit_logistic(x, y).params
    if b4 < 0:
        b1, b2, b4 = b2, b1, -b4
    assert (b1, b2, b3, b4) == pytest.approx((9, 2, 1, 0.5), abs=1e-4)


def test_fit_follows_a_falling_score() -> None:
    x, y = noisy_logistic()
    fit = fit_logistic(-x, y)
    assert fit.converged
    assert plcc(fit(-x), y) == pytest.approx(plcc(fit_logistic(x, y)(x), y), abs=1e-4)


def test_fit_is_no_worse_than_the_line() -> None:
    for seed in range(20):
        x, y = np.random.default_rng(seed).normal(size=(2, 30))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            fit = fit_logistic(x, y)
        slope, intercept = np.polyfit(x, y, 1)
        assert rmse(fit(x), y) <= rmse(slope * x + intercept, y) * 1.001 + 1e-9


@pytest.mark.parametrize("x", [[1.0, 2.0, 4.0], [5.0] * 10])
def test_too_little_for_a_logistic_gives_the_line_and_says_so(x: list[float]) -> None:
    y = np.arange(len(x)) * 2.0
    with pytest.warns(FitWarning, match="straight line"):
        fit = fit_logistic(x, y)
    assert not fit.converged
    expected = np.full(len(x), y.mean()) if np.ptp(x) == 0 else np.polyval(np.polyfit(x, y, 1), x)
    np.testing.assert_allclose(fit(x), expected, atol=1e-9)


def test_search_that_ends_nowhere_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noisy_logistic()
    monkeypatch.setattr(logistic_map, "_MAX_EVALUATIONS", 3)
    with pytest.warns(FitWarning):
        scores = evaluate(x, y)
    assert not scores.logistic_converged
    assert scores.plcc_logistic == pytest.approx(scores.plcc, abs=1e-12)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="4 or 5"):
        fit_logistic([1, 2], [1, 2], parameters=3)
    with pytest.raises(InputError, match="no values"):
        fit_logistic([], [])

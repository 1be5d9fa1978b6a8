"""Metrics against SciPy, closed forms and invariances."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.evaluation import metrics
from grmp_core.evaluation.metrics import FitWarning, bootstrap_interval, evaluate, fit_logistic, krcc, plcc, rmse, srcc

PAIRS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=3, max_size=40)


def noisy_pair(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    return x, 20 + 60 / (1 + np.exp(-(x - 0.5) / 0.12)) + rng.normal(0, 4, n)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_correlations_equal_scipy_ties_included(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert all(math.isnan(metric(x, y)) for metric in (srcc, plcc, krcc))
        return
    assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert plcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert krcc(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_spearman_is_pearson_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    expected = plcc(stats.rankdata(x), stats.rankdata(y))
    assert srcc(x, y) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_rank_metrics_ignore_monotone_maps_and_flip_with_the_sign(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    for metric in (srcc, krcc):
        assert metric(np.exp(x / 10), y**3) == pytest.approx(metric(x, y), abs=1e-12, nan_ok=True)
        assert metric(-x, y) == pytest.approx(-metric(x, y), abs=1e-12, nan_ok=True)
        assert metric(y, x) == pytest.approx(metric(x, y), abs=1e-12, nan_ok=True)


def test_plcc_ignores_linear_maps_only() -> None:
    x, y = noisy_pair()
    assert plcc(3 * x - 7, y) == pytest.approx(plcc(x, y), abs=1e-12)
    assert abs(plcc(np.exp(5 * x), y) - plcc(x, y)) > 0.01


def test_kendall_by_hand() -> None:
    # Pairs of (1,2,3,4) with (1,3,2,4): five agree, one does not.
    assert krcc([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)


def test_rmse_by_hand() -> None:
    assert rmse([0, 0], [3, 4]) == pytest.approx(math.sqrt(12.5))
    assert math.isnan(rmse([], []))


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
    x, y = noisy_pair()
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
    x, y = noisy_pair()
    monkeypatch.setattr(metrics, "_MAX_EVALUATIONS", 3)
    with pytest.warns(FitWarning):
        scores = evaluate(x, y)
    assert not scores.logistic_converged
    assert scores.plcc_logistic == pytest.approx(scores.plcc, abs=1e-12)


def test_evaluate_gives_every_metric() -> None:
    x, y = noisy_pair()
    scores = evaluate(x, y)
    assert (scores.srcc, scores.plcc, scores.krcc, scores.n) == (srcc(x, y), plcc(x, y), krcc(x, y), 200)
    assert scores.logistic_converged
    assert scores.plcc_logistic > scores.plcc
    assert scores.rmse == pytest.approx(4, abs=0.5)  # the noise that noisy_pair puts in


@pytest.mark.filterwarnings("ignore::grmp_core.evaluation.metrics.FitWarning")
def test_undefined_is_nan() -> None:
    constant = evaluate([0.5] * 6, [1, 2, 3, 4, 5, 6])
    assert all(math.isnan(v) for v in (constant.srcc, constant.plcc, constant.plcc_logistic, constant.krcc))
    assert constant.rmse == pytest.approx(np.std([1, 2, 3, 4, 5, 6]))
    assert not constant.logistic_converged
    assert math.isnan(evaluate([1, 2, 3], [4, 4, 4]).srcc)
    assert math.isnan(evaluate([1], [4]).plcc)
    assert evaluate([], []).n == 0
    assert math.isnan(evaluate([], []).rmse)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match=r"\(3,\) and \(2,\)"):
        evaluate([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="second input are not finite, first at index 1"):
        evaluate([1, 2, 3], [1, math.nan, 3])
    with pytest.raises(InputError, match="first input"):
        srcc([1, math.inf], [1, 2])
    with pytest.raises(InputError, match="4 or 5"):
        fit_logistic([1, 2], [1, 2], parameters=3)
    with pytest.raises(InputError, match="no values"):
        fit_logistic([], [])
    with pytest.raises(InputError, match="confidence"):
        bootstrap_interval(srcc, [1, 2], [1, 2], confidence=1.0)


def test_bootstrap_matches_the_known_error_of_a_mean() -> None:
    y = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap_interval(lambda a, b: float(b.mean()), y, y, confidence=0.95, n=2000)
    assert low == pytest.approx(y.mean() - 1.96 * y.std() / 20, abs=0.02)
    assert high == pytest.approx(y.mean() + 1.96 * y.std() / 20, abs=0.02)


def test_bootstrap_is_seeded_and_widens_with_confidence() -> None:
    x, y = noisy_pair(60)
    narrow = bootstrap_interval(srcc, x, y, confidence=0.5, n=200)
    wide = bootstrap_interval(srcc, x, y, confidence=0.99, n=200)
    assert narrow == bootstrap_interval(srcc, x, y, confidence=0.5, n=200)
    assert narrow != bootstrap_interval(srcc, x, y, confidence=0.5, n=200, seed=1)
    assert wide.low < narrow.low < srcc(x, y) < narrow.high < wide.high
    assert all(math.isnan(v) for v in bootstrap_interval(srcc, [1.0] * 5, [1, 2, 3, 4, 5], n=20))


def test_wilcoxon() -> None:
    a, b = np.random.default_rng(0).normal([[0.8], [0.7]], 0.05, (2, 10))
    expected = stats.wilcoxon(a, b)
    assert metrics.wilcoxon_paired(a, b) == (expected.statistic, expected.pvalue)
    assert metrics.wilcoxon_paired(b, a).p_value == metrics.wilcoxon_paired(a, b).p_value
    assert metrics.wilcoxon_paired(a, a) == (0.0, 1.0)

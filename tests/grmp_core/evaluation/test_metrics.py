"""Metrics against SciPy, closed forms and invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import (
    MIN_INTERVAL_IMAGES,
    bootstrap_interval,
    evaluate,
    krcc,
    plcc,
    rmse,
    srcc,
    wilcoxon_paired,
    within_srcc,
)
from grmp_core.evaluation.value_pairs import TIE_TOLERANCE, merge_ties
from tests.grmp_core.evaluation.noisy_logistic import noisy_logistic

PAIRS = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=3, max_size=40)


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


SPREAD = st.lists(st.integers(1, 2**15), min_size=3, max_size=30, unique=True)
"""Values whose differences are far above rounding."""


def nearly(values: np.ndarray, seed: int) -> np.ndarray:
    """The values as a float32 model may give them: up to three units in the last place off."""
    steps = np.random.default_rng(seed).integers(-3, 4, len(values))
    return (values * (1 + steps * 2.0**-23)).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("metric", [srcc, plcc, krcc])
@pytest.mark.parametrize("value", [0.895, 1e-4, 73.5, -3.0, 0.0])
def test_predictions_that_only_rounding_tells_apart_are_constant(metric, value: float) -> None:
    """Six copies of a picture, of which the last went through a smaller batch."""
    mos = np.arange(6.0)
    for seed in range(20):
        assert math.isnan(metric(nearly(np.full(6, value), seed), mos))
        assert math.isnan(metric(mos, nearly(np.full(6, value), seed)))


@settings(max_examples=60, deadline=None)
@given(SPREAD, st.lists(st.integers(0, 29), min_size=3, max_size=40), st.integers(0, 99))
def test_rounding_changes_no_rank_correlation(spread: list[int], chosen: list[int], seed: int) -> None:
    """Values with repetitions, before and after rounding, against scores of their own."""
    values = np.array([spread[i % len(spread)] for i in chosen]) / 2**15
    mos = np.random.default_rng(seed).integers(0, 9, len(values)).astype(float)
    for metric in (srcc, krcc):
        assert metric(nearly(values, seed), mos) == pytest.approx(metric(values, mos), abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(SPREAD, st.integers(0, 99))
def test_rank_correlations_ignore_order_and_rising_maps_of_rounded_values(spread: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = nearly(np.repeat(np.array(spread) / 2**15, 2), seed)
    mos, order = rng.normal(size=len(values)), rng.permutation(len(values))
    for metric in (srcc, krcc):
        expected = metric(values, mos)
        assert metric(values[order], mos[order]) == pytest.approx(expected, abs=1e-12)
        assert metric(-values, mos) == pytest.approx(-expected, abs=1e-12)
        for rising in (np.sqrt, lambda v: v / (1 + v), lambda v: 7 * v, lambda v: np.log(v) - 1):
            assert metric(rising(values), mos) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_merged_ties_are_narrow_and_stay_as_they_are(values: list[float]) -> None:
    x = np.array(values)
    merged = merge_ties(x)
    assert np.all(np.abs(merged - x) <= TIE_TOLERANCE * np.maximum(np.abs(merged), np.abs(x)))
    assert np.all(merged[np.argsort(x, kind="stable")][1:] >= merged[np.argsort(x, kind="stable")][:-1])
    np.testing.assert_array_equal(merge_ties(merged), merged)
    np.testing.assert_array_equal(merge_ties(x[::-1]), merged[::-1])


def test_densely_lying_values_do_not_become_one_tie() -> None:
    dense = 0.5 + np.arange(2000) * TIE_TOLERANCE / 8
    assert len(np.unique(merge_ties(dense))) > 100
    assert srcc(dense, dense) == pytest.approx(1)
    assert srcc(dense, np.random.default_rng(0).permutation(dense)) == pytest.approx(0, abs=0.1)


def test_plcc_ignores_linear_maps_only() -> None:
    x, y = noisy_logistic()
    assert plcc(3 * x - 7, y) == pytest.approx(plcc(x, y), abs=1e-12)
    assert abs(plcc(np.exp(5 * x), y) - plcc(x, y)) > 0.01


def test_kendall_by_hand() -> None:
    # Pairs of (1,2,3,4) with (1,3,2,4): five agree, one does not.
    assert krcc([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)


def test_rmse_by_hand() -> None:
    assert rmse([0, 0], [3, 4]) == pytest.approx(math.sqrt(12.5))
    assert math.isnan(rmse([], []))


def test_evaluate_gives_every_metric() -> None:
    x, y = noisy_logistic()
    scores = evaluate(x, y)
    assert (scores.srcc, scores.plcc, scores.krcc, scores.n) == (srcc(x, y), plcc(x, y), krcc(x, y), 200)
    assert scores.logistic_converged
    assert scores.plcc_logistic > scores.plcc
    assert scores.rmse == pytest.approx(4, abs=0.5)  # the noise that noisy_logistic puts in


@pytest.mark.filterwarnings("ignore::grmp_core.evaluation.logistic_map.FitWarning")
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
    with pytest.raises(InputError, match="confidence"):
        bootstrap_interval(srcc, [1, 2], [1, 2], confidence=1.0)


def test_bootstrap_matches_the_known_error_of_a_mean() -> None:
    y = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap_interval(lambda a, b: float(b.mean()), y, y, confidence=0.95, n=2000)
    assert low == pytest.approx(y.mean() - 1.96 * y.std() / 20, abs=0.02)
    assert high == pytest.approx(y.mean() + 1.96 * y.std() / 20, abs=0.02)


@pytest.mark.parametrize("decimals", [0, 8], ids=["tied", "distinct"])
def test_bootstrap_is_that_of_scipy(decimals: int) -> None:
    x, y = (np.round(side, decimals) for side in noisy_logistic(40))
    expected = stats.bootstrap(
        (x, y), srcc, paired=True, vectorized=False, n_resamples=100, confidence_level=0.9, method="percentile",
        rng=np.random.default_rng(3),
    )  # fmt: skip
    assert bootstrap_interval(srcc, x, y, confidence=0.9, seed=3, n=100) == pytest.approx(expected.confidence_interval)


def test_resamples_without_a_metric_are_left_out() -> None:
    """A third of them has one score only, for which SciPy's interval is not defined."""
    x, y = np.arange(10.0), np.eye(10)[9]
    low, high = bootstrap_interval(srcc, x, y, n=200)
    assert 0 < low < high < 1
    with pytest.warns(stats.DegenerateDataWarning):
        scipys = stats.bootstrap((x, y), srcc, paired=True, vectorized=False, n_resamples=200, method="percentile")
    assert math.isnan(scipys.confidence_interval.low)


def test_bootstrap_is_seeded_and_widens_with_confidence() -> None:
    x, y = noisy_logistic(60)
    narrow = bootstrap_interval(srcc, x, y, confidence=0.5, n=200)
    wide = bootstrap_interval(srcc, x, y, confidence=0.99, n=200)
    assert narrow == bootstrap_interval(srcc, x, y, confidence=0.5, n=200)
    assert narrow != bootstrap_interval(srcc, x, y, confidence=0.5, n=200, seed=1)
    assert wide.low < narrow.low < srcc(x, y) < narrow.high < wide.high
    assert all(math.isnan(v) for v in bootstrap_interval(srcc, [1.0] * 12, np.arange(12), n=20))


def test_few_images_have_no_interval() -> None:
    enough = MIN_INTERVAL_IMAGES
    assert bootstrap_interval(srcc, np.arange(enough), np.arange(enough)) == pytest.approx((1, 1))
    for n in (0, 1, 2, enough - 1):
        assert all(math.isnan(v) for v in bootstrap_interval(srcc, np.arange(n), np.arange(n)))


def test_the_interval_covers_the_true_value_from_the_fewest_images_on() -> None:
    rng, correlation = np.random.default_rng(0), 0.95
    true = 6 / math.pi * math.asin(correlation / 2)  # SRCC of normal pairs
    covered = 0
    for _ in range(60):
        x, noise = rng.normal(size=(2, MIN_INTERVAL_IMAGES))
        low, high = bootstrap_interval(srcc, x, correlation * x + math.sqrt(1 - correlation**2) * noise, n=100)
        covered += low <= true <= high
    assert covered >= 54


def test_wilcoxon() -> None:
    a, b = np.random.default_rng(0).normal([[0.8], [0.7]], 0.05, (2, 10))
    expected = stats.wilcoxon(a, b)
    assert wilcoxon_paired(a, b) == (expected.statistic, expected.pvalue)
    assert wilcoxon_paired(b, a).p_value == wilcoxon_paired(a, b).p_value
    assert wilcoxon_paired(a, a) == (0.0, 1.0)


def test_within_scenes_is_the_weighted_mean_of_scipys() -> None:
    rng = np.random.default_rng(5)
    scenes = np.repeat(["a", "b", "c"], [12, 8, 4])  # c is too small to count
    quality = rng.normal(size=24)
    predicted = quality + rng.normal(size=24)
    parts = [stats.spearmanr(predicted[rows], quality[rows]).statistic for rows in (slice(0, 12), slice(12, 20))]
    assert within_srcc(predicted, quality, scenes) == pytest.approx((12 * parts[0] + 8 * parts[1]) / 20)


def test_what_tells_scenes_apart_earns_nothing_within_them() -> None:
    scenes = np.repeat([0, 1], 10)
    quality = np.arange(20.0)
    predicted = 100 * scenes - quality  # the scenes in their right order, all else turned around
    assert srcc(predicted, quality) > 0
    assert within_srcc(predicted, quality, scenes) == pytest.approx(-1)


def test_scenes_without_enough_or_with_constant_images_are_left_out() -> None:
    scenes = np.repeat([0, 1], [6, 3])
    assert math.isnan(within_srcc(np.ones(9), np.arange(9.0), scenes))
    mixed = np.r_[np.arange(6.0), 5.0, 4.0, 3.0]
    assert within_srcc(mixed, np.arange(9.0), scenes) == pytest.approx(1)
    with pytest.raises(InputError, match="give one each"):
        within_srcc(mixed, mixed, scenes[:4])

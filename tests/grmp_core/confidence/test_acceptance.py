"""Thresholds against SciPy's binomial, and the promise by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grmp_core.confidence.acceptance import acceptance_threshold, clopper_pearson_low, images_needed
from grmp_core.errors import InputError


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (1, 1), (20, 40), (59, 59), (199, 200)])
def test_the_bound_is_scipys(successes: int, trials: int):
    exact = stats.binomtest(successes, trials, alternative="greater").proportion_ci(0.95, method="exact").low
    assert clopper_pearson_low(successes, trials, 0.95) == pytest.approx(exact)


def test_59_images_without_an_error_show_95_percent_with_95_percent_confidence():
    assert images_needed(0.95, 0.95) == 59
    assert 0.95**59 < 0.05 < 0.95**58  # the closed form


@pytest.mark.parametrize(("precision", "confidence", "errors"), [(0.9, 0.95, 0), (0.95, 0.9, 1), (0.8, 0.99, 4)])
def test_images_needed_are_the_least_whose_binomial_test_rejects(precision: float, confidence: float, errors: int):
    count = images_needed(precision, confidence, errors)
    p_values = [stats.binomtest(n - errors, n, precision, "greater").pvalue for n in (count - 1, count)]
    assert p_values[1] <= 1 - confidence < p_values[0]


def test_a_perfect_order_gives_a_threshold_just_below_the_last_good_image():
    """100 good images, then bad ones: one may slip in, since 93 images show 95 % with one error; two may not."""
    predicted = np.arange(200.0)
    found = acceptance_threshold(predicted, predicted >= 100, 0.95, 0.95)
    assert (found.accepted, found.errors, found.missing) == (101, 1, 0)
    assert found.threshold == predicted[98]
    assert found.share == pytest.approx(101 / 200)
    assert found.precision_low == pytest.approx(stats.beta.ppf(0.05, 100, 2))


@pytest.mark.parametrize(("good", "missing"), [(10, 49), (58, 1)])
def test_too_few_images_say_how_many_are_missing(good: int, missing: int):
    found = acceptance_threshold(np.arange(float(good)), np.ones(good, dtype=bool), 0.95, 0.95)
    assert math.isnan(found.threshold)
    assert found.missing == missing


def test_all_images_may_pass():
    found = acceptance_threshold(np.arange(59.0), np.ones(59, dtype=bool), 0.95, 0.95)
    assert found.threshold == -math.inf
    assert found.accepted == 59


@pytest.mark.parametrize("count", [80, 1000])
def test_an_error_among_the_best_is_not_outweighed_by_any_number_of_others(count: int):
    passes = np.ones(count, dtype=bool)
    passes[-5] = False
    found = acceptance_threshold(np.arange(float(count)), passes, 0.95, 0.95)
    assert math.isnan(found.threshold)
    assert (found.accepted, found.errors, found.missing) == (59, 1, 0)


def test_errors_are_counted_in_the_set_that_was_tried():
    """One hundred equal predictions are one set, in which the errors come last."""
    passes = np.arange(100) < 89
    found = acceptance_threshold(np.ones(100), passes, 0.95, 0.95)
    assert math.isnan(found.threshold)
    assert (found.accepted, found.errors) == (100, 11)


def test_equal_predictions_pass_together():
    predicted = np.repeat([3.0, 2.0, 1.0], 60)
    found = acceptance_threshold(predicted, predicted > 1, 0.95, 0.95)
    assert (found.accepted, found.threshold) == (120, 1.0)


def test_no_images_are_refused():
    with pytest.raises(InputError, match="no held-out predictions"):
        acceptance_threshold(np.array([]), np.array([], dtype=bool), 0.95, 0.95)


@pytest.mark.parametrize("noise", [0.05, 0.12])
def test_the_promise_is_kept_as_often_as_it_says(noise: float):
    """Of 800 sets of labels at most 10 % (+ 3 standard errors) give a threshold above which fewer than 90 % pass."""
    rng = np.random.default_rng(2)
    population = rng.uniform(0, 1, 40_000)
    passes = population + noise * rng.normal(size=population.shape) > 0.5
    order = np.argsort(population)
    above = np.cumsum(passes[order][::-1])[::-1] / np.arange(len(order), 0, -1)
    broken = given = 0
    for _ in range(800):
        drawn = rng.integers(len(population), size=150)
        found = acceptance_threshold(population[drawn], passes[drawn], 0.9, 0.9)
        if not math.isnan(found.threshold):
            given += 1
            first = np.searchsorted(population[order], found.threshold, side="right")
            broken += above[min(first, len(above) - 1)] < 0.9
    assert given > 500
    assert broken / 800 <= 0.1 + 3 * math.sqrt(0.09 / 800)

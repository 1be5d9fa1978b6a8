"""Comparisons: symmetric, unsure where nothing differs, and right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grmp_core.confidence.intervals import spread_of
from grmp_core.confidence.preference import preference


def known_errors(rng: np.random.Generator, count: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    predicted = rng.uniform(0.3, 0.7, count)
    return predicted, predicted + size * spread_of(predicted) * rng.normal(size=count)


def test_equal_versions_are_even_and_turned_sides_turn_the_answer():
    rng = np.random.default_rng(0)
    errors = known_errors(rng, 60, 0.2)
    same = rng.uniform(0.2, 0.8, 30)
    even = preference(same, same, *errors, 0.9)
    assert even.probability == pytest.approx(0.5, abs=0.03)
    assert even.difference == 0
    assert even.low < 0 < even.high
    one, other = preference(same + 0.05, same, *errors, 0.9), preference(same, same + 0.05, *errors, 0.9)
    assert one.probability == pytest.approx(1 - other.probability, abs=0.03)
    assert one.difference == pytest.approx(-other.difference)


def test_a_pair_with_normal_errors_has_the_normal_probability():
    """The difference of two independent errors of .1 has a standard deviation of .1 √2."""
    rng = np.random.default_rng(1)
    found = preference(np.array([0.55]), np.array([0.45]), *known_errors(rng, 3000, 0.2), 0.9)
    assert found.probability == pytest.approx(stats.norm.cdf(0.1 / (0.1 * 2**0.5)), abs=0.04)
    reach = stats.norm.ppf(0.95) * 0.1 * 2**0.5
    assert (found.low, found.high) == pytest.approx((0.1 - reach, 0.1 + reach), abs=0.03)


def test_more_scenes_make_it_surer():
    errors = known_errors(np.random.default_rng(2), 60, 0.3)
    chances = [
        preference(np.full(count, 0.52), np.full(count, 0.5), *errors, 0.9).probability for count in (1, 10, 100)
    ]
    assert 0.5 < chances[0] < chances[1] < chances[2] < 1


def test_the_interval_of_the_difference_covers_the_truth():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(150):
        errors = known_errors(rng, 50, 0.2)
        first, second = rng.uniform(0.4, 0.6, (2, 1))
        truth = (first + 0.2 * spread_of(first) * rng.normal()) - (second + 0.2 * spread_of(second) * rng.normal())
        found = preference(first, second, *errors, 0.9)
        covered.append(found.low <= truth[0] <= found.high)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.07)


def test_few_errors_leave_room_for_larger_ones():
    small = np.full(10, 0.5), np.linspace(0.45, 0.55, 10)
    assert preference(np.array([0.9]), np.array([0.1]), *small, 0.9).probability > 0.99
    assert preference(np.array([0.58]), np.array([0.5]), *small, 0.9).probability < 1

"""Intervals: their quantile against order statistics, and their coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from grmp_core.confidence.intervals import interval_of, margin_of, spread_of


def test_the_spread_is_that_of_a_coin_and_does_not_vanish():
    for quality in (0.1, 0.37, 0.5, 0.9):
        assert spread_of(quality) == pytest.approx(stats.bernoulli(quality).std())
    assert spread_of(0.0) == spread_of(1.0) == spread_of(0.02) == pytest.approx(0.2)


def test_the_margin_is_an_order_statistic_where_n_plus_one_times_coverage_is_whole():
    rng = np.random.default_rng(0)
    predicted, quality = rng.uniform(0, 1, 19), rng.uniform(0, 1, 19)
    errors = np.sort(np.abs(quality - predicted) / spread_of(predicted))
    assert margin_of(predicted, quality, 0.9) == pytest.approx(errors[17])  # the 18th of 20
    assert margin_of(predicted, quality, 0.5) == pytest.approx(errors[9])


@pytest.mark.parametrize(("count", "coverage"), [(0, 0.5), (8, 0.9), (18, 0.95)])
def test_too_few_errors_give_the_whole_scale(count: int, coverage: float):
    some = np.full(count, 0.5)
    margin = margin_of(some, some, coverage)
    assert math.isinf(margin)
    assert interval_of(0.3, margin) == (0, 1)
    more = np.full(count + 1, 0.5)
    assert margin_of(more, more, coverage) == 0


@given(st.floats(0, 1), st.floats(0, 5))
def test_an_interval_holds_its_quality_and_stays_on_the_scale(quality: float, margin: float):
    low, high = interval_of(quality, margin)
    assert 0 <= low <= quality <= high <= 1


def test_no_score_has_no_interval():
    assert np.isnan(interval_of(math.nan, 0.1)).all()


@pytest.mark.parametrize("count", [25, 50])
def test_the_coverage_is_right_on_average_over_labels(count: int):
    """Exchangeable errors of a fixed model: the mean over 1,000 sets of labels has a standard error of about .002."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        predicted = rng.beta(3, 2, count + 50)
        quality = np.clip(predicted + 0.3 * spread_of(predicted) * rng.standard_t(5, count + 50), 0, 1)
        margin = margin_of(predicted[:count], quality[:count], 0.9)
        low, high = interval_of(predicted[count:], margin)
        covered.append(np.mean((low <= quality[count:]) & (quality[count:] <= high)))
    assert np.mean(covered) == pytest.approx(0.9, abs=0.008)

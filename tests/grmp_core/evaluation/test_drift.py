"""Distances of score distributions against SciPy, a closed form, and their own properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.evaluation.drift import drift_of

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=60).map(np.array)


@settings(max_examples=40)
@given(SCORES, SCORES)
def test_the_distance_is_that_of_the_distribution_functions(new, reference):
    drift = drift_of(new, reference)
    points = np.concatenate([new, reference])
    apart = [abs((new <= x).mean() - (reference <= x).mean()) for x in points]
    assert drift.distance == pytest.approx(max(apart))
    assert drift.stability_index >= 0
    assert 0 <= drift.p_value <= 1


def test_the_stability_index_of_a_shift_by_one_decile_is_the_closed_form():
    """All of ten new images lie in the last decile of a hundred: shares with half an image added to every bin."""
    reference = np.arange(100) / 100
    new = np.full(10, 0.995)
    p = np.array([0.5] * 9 + [10.5]) / 15
    q = np.full(10, 10.5) / 105
    assert drift_of(new, reference).stability_index == pytest.approx(((p - q) * np.log(p / q)).sum())


def test_the_same_distribution_does_not_drift_and_another_does():
    rng = np.random.default_rng(0)
    reference = rng.beta(5, 3, 500)
    alarms = sum(drift_of(rng.beta(5, 3, 300), reference).exceeds(0.1) for _ in range(100))
    assert alarms <= 3
    other = rng.beta(4.5, 3, 300)
    assert drift_of(other, reference).p_value == pytest.approx(stats.ks_2samp(other, reference).pvalue, abs=0.01)
    assert drift_of(rng.beta(3, 5, 300), reference).exceeds(0.1)
    assert not drift_of(reference[:4], reference).exceeds(0.1)  # far by chance


def test_too_few_scores_are_refused():
    with pytest.raises(InputError, match="1 scores and 3 of the reference"):
        drift_of(np.ones(1), np.ones(3))

"""Mean opinion scores against SciPy, and BT.500's screening against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grmp_core.ratings.grades import grades_of, kept_by_screening, mean_opinion
from tests.grmp_core.ratings.votes import grade, pair

NORMAL_15 = [1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5]
"""Mean 3; second moment 12/15 = .8, fourth 36/15 = 2.4, kurtosis 2.4/.64 = 3.75, so 2 deviations count; the standard
deviation is sqrt(12/14) = .926, so that 1 and 5 are far and 2 and 4 are not."""


def test_first_grades_make_the_matrix():
    votes = [grade("Ann", "a", 1), grade("Bob", "a", 2), grade("Ann", "b", 4), grade("Ann", "a", 5, repeat=True)]
    grades = grades_of([*votes, pair("a", "c", "left")])
    assert grades.images == ("a", "b")
    assert grades.raters == ("Ann", "Bob")
    np.testing.assert_array_equal(grades.values_IR, [[1, 2], [4, np.nan]])


def test_mean_opinion_is_that_of_scipy():
    rng = np.random.default_rng(0)
    values_IR = rng.integers(1, 6, (20, 7)).astype(float)
    values_IR[rng.random((20, 7)) < 0.3] = np.nan
    values_IR[0], values_IR[0, 3] = np.nan, 2.0
    opinion = mean_opinion(values_IR, coverage=0.9)
    assert opinion.mos_I[0] == 2
    assert np.isnan([opinion.stderr_I[0], opinion.low_I[0], opinion.high_I[0]]).all()
    for i in range(1, 20):
        votes = values_IR[i][~np.isnan(values_IR[i])]
        assert opinion.votes_I[i] == len(votes)
        assert opinion.stderr_I[i] == pytest.approx(stats.sem(votes))
        interval = stats.t.interval(0.9, len(votes) - 1, votes.mean(), stats.sem(votes))
        assert (opinion.low_I[i], opinion.high_I[i]) == pytest.approx(interval)


def images_where(rater: int, votes: list[float], far: list[float], calm: int) -> np.ndarray:
    """Images on which all agree, and one image for each value of `far`, which the rater of that index gives there."""
    rows = [[3.0] * len(votes)] * calm
    for value in far:
        others = sorted(votes)
        others.remove(value)
        rows.append([*others[:rater], value, *others[rater:]])
    return np.array(rows)


def test_screening_of_nearly_normal_votes_by_hand():
    """2 far votes of 20, one above and one below: 10 % > 5 % and |1 - 1| / 2 = 0 < .3, so the rater fails."""
    votes = [float(vote) for vote in NORMAL_15]
    values_IR = images_where(7, votes, [1.0, 5.0], calm=18)
    assert list(np.flatnonzero(~kept_by_screening(values_IR))) == [7]


def test_a_biased_rater_passes_the_screening():
    """|2 - 0| / 2 = 1 is not below .3."""
    values_IR = images_where(7, [float(vote) for vote in NORMAL_15], [5.0, 5.0], calm=18)
    assert kept_by_screening(values_IR).all()


def test_five_percent_of_far_votes_are_not_more_than_five_percent():
    values_IR = images_where(7, [float(vote) for vote in NORMAL_15], [1.0, 5.0], calm=38)
    assert kept_by_screening(values_IR).all()


@pytest.mark.parametrize(("raters", "fails"), [(22, True), (21, False)])
def test_screening_of_votes_with_an_outlier_by_hand(raters: int, fails: bool):
    """One vote apart from n - 1 equal ones: kurtosis far above 4, so √20 = 4.472 deviations count. It is (n - 1)/√n
    deviations from the mean: 4.477 of 22 raters, 4.364 of 21."""
    values_IR = np.full((20, raters), 3.0)
    values_IR[0, 4], values_IR[1, 4] = 5.0, 1.0
    kept_R = kept_by_screening(values_IR)
    assert kept_R[4] == (not fails)
    assert kept_R.sum() == raters - fails


def test_screening_takes_votes_that_are_missing():
    values_IR = images_where(7, [float(vote) for vote in NORMAL_15], [1.0, 5.0], calm=38)
    values_IR[:20, 7] = np.nan  # 2 of 20 are more than 5 %
    assert list(np.flatnonzero(~kept_by_screening(values_IR))) == [7]

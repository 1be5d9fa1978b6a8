"""Measures of a stream against hand-made squares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grmp_core.continual.stream_metrics import stream_metrics

SRCC = np.array([[0.8, 0.1, 0.2], [0.6, 0.7, 0.3], [0.5, 0.75, 0.9]])


def test_measures_of_a_square_by_hand():
    found = stream_metrics(SRCC)
    assert found.mean == pytest.approx((0.5 + 0.75 + 0.9) / 3)
    assert found.plasticity == pytest.approx((0.8 + 0.7 + 0.9) / 3)
    assert found.forgetting == pytest.approx(((0.8 - 0.5) + 0) / 2)
    assert found.stability == pytest.approx((0.6 + 0.5 + 0.75) / 3)
    assert found.transfer == pytest.approx((0.1 + 0.2 + 0.3) / 3)


@given(arrays(float, st.integers(2, 5).map(lambda n: (n, n)), elements=st.floats(-1, 1)))
def test_forgetting_is_never_below_zero_and_zero_where_the_last_step_is_the_best(srcc):
    assert stream_metrics(srcc).forgetting >= 0
    best = srcc.copy()
    best[-1] = srcc.max(axis=0)
    assert stream_metrics(best).forgetting == 0


def test_what_is_not_defined_is_nan():
    one = stream_metrics(np.array([[0.5]]))
    assert one.mean == one.plasticity == 0.5
    assert all(math.isnan(value) for value in (one.forgetting, one.stability, one.transfer))
    missing = SRCC.copy()
    missing[1, 0] = math.nan
    found = stream_metrics(missing)
    assert math.isnan(found.forgetting)
    assert math.isnan(found.stability)
    assert not math.isnan(found.mean)


def test_only_squares_are_streams():
    with pytest.raises(ValueError, match="square"):
        stream_metrics(np.ones((2, 3)))
    with pytest.raises(ValueError, match="square"):
        stream_metrics(np.ones((0, 0)))

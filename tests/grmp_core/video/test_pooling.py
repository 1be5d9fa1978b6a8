"""Windows and poolings against SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hmean

from grmp_core.video.pooling import OFFSET, pooled, windows_of

QUALITIES = st.lists(st.floats(0, 1), min_size=1, max_size=50)


@given(QUALITIES)
def test_harmonic_pooling_is_scipys_of_shifted_values(values: list[float]):
    quality = np.array(values)
    assert pooled(quality)["harmonic"] == pytest.approx(hmean(quality + OFFSET) - OFFSET, abs=1e-9)


@given(QUALITIES)
def test_poolings_keep_the_range_and_drops_weigh_more(values: list[float]):
    found = pooled(np.array(values))
    for pooling in found.values():
        assert min(values) - 1e-9 <= pooling <= max(values) + 1e-9
    assert found["harmonic"] <= found["mean"] + 1e-9


@given(st.floats(0, 1), st.integers(1, 20))
def test_constant_quality_is_the_quality(value: float, count: int):
    assert all(pooling == pytest.approx(value, abs=1e-9) for pooling in pooled(np.full(count, value)).values())


def test_a_short_drop_moves_the_harmonic_mean_more_than_the_mean_and_not_the_percentile():
    steady, drop = np.full(60, 0.7), np.full(60, 0.7)
    drop[30] = 0.05
    fall = {name: value - pooled(drop)[name] for name, value in pooled(steady).items()}
    assert fall["harmonic"] > 5 * fall["mean"] > 0
    assert fall["percentile"] == pytest.approx(0)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.sampled_from([0.5, 1.0, 7.0]))
def test_windows_hold_every_frame_once(times: list[float], window_s: float):
    times = sorted(times)
    quality = np.random.default_rng(len(times)).random(len(times))
    pictures = [bytes([i]) for i in range(len(times))]
    found = list(windows_of(zip(times, quality, pictures, strict=True), window_s))
    assert sum(window.frames for window, _ in found) == len(times)
    assert [window.start_s for window, _ in found] == sorted({window.start_s for window, _ in found})
    numbers = np.floor(np.array(times) / window_s + 1e-9).astype(int)
    for window, picture in found:
        inside = numbers == round(window.start_s / window_s)
        assert window.quality == pytest.approx(quality[inside].mean())
        assert window.lowest == quality[inside].min() == quality[picture[0]]
        assert window.worst_s == times[picture[0]]

"""Bootstrap comparison of two methods: against SciPy's SRCC, and by how often it is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import within_srcc
from grmp_core.evaluation.paired_inference import FoldPredictions, paired_difference


def made_up(rng: np.random.Generator, method_noise: float, rival_noise: float, images: int = 60, draws: int = 5):
    mos_N = rng.standard_normal(images)

    def noisy(noise: float) -> np.ndarray:
        return mos_N + noise * rng.standard_normal((draws, images))

    return FoldPredictions(np.arange(images), mos_N, noisy(method_noise), noisy(rival_noise))


def test_the_difference_is_scipys():
    folds = [made_up(np.random.default_rng(i), 0.5, 1.0) for i in range(2)]
    found = paired_difference(folds, resamples=20)
    by_scipy = [
        stats.spearmanr(fold.mos_N, a).statistic - stats.spearmanr(fold.mos_N, b).statistic
        for fold in folds
        for a, b in zip(fold.method_DN, fold.rival_DN, strict=True)
    ]
    assert found.difference == pytest.approx(np.mean(by_scipy))
    assert (found.draws, found.images) == (10, 120)


def test_a_better_method_is_found_and_a_worse_one_is_not():
    better = [made_up(np.random.default_rng(i), 0.4, 1.2) for i in range(5)]
    found = paired_difference(better, resamples=200)
    assert found.low > 0
    assert found.p == pytest.approx(1 / 201)
    worse = [FoldPredictions(f.groups_N, f.mos_N, f.rival_DN, f.method_DN) for f in better]
    assert paired_difference(worse, resamples=200).p == 1


def test_equal_methods_seldom_seem_different():
    """Of 60 comparisons of equals about one in twenty has p below .05; ten or more would be one in ten thousand."""
    p_values = [
        paired_difference([made_up(np.random.default_rng(100 * i + j), 1, 1, 40, 4) for j in range(2)], resamples=100).p
        for i in range(60)
    ]
    assert sum(p < 0.05 for p in p_values) < 10


def test_images_of_a_group_are_drawn_together():
    fold = made_up(np.random.default_rng(0), 0.5, 1.0)
    doubled = FoldPredictions(
        *(np.concatenate([values, values], axis=-1) for values in (fold.groups_N, fold.mos_N)),
        *(np.concatenate([values, values], axis=-1) for values in (fold.method_DN, fold.rival_DN)),
    )
    once, twice = (paired_difference([one], resamples=200) for one in (fold, doubled))
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.05)  # copies bring no certainty


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="no label draw"):
        paired_difference([])
    one = FoldPredictions(np.zeros(4), np.arange(4.0), np.ones((1, 4)), np.ones((1, 4)))
    with pytest.raises(InputError, match="fewer than two groups"):
        paired_difference([one])


def test_within_scenes_the_difference_is_that_of_the_metric():
    plain = made_up(np.random.default_rng(3), 0.5, 1.0)
    scenes = np.repeat(["a", "b", "c"], [30, 26, 4])
    found = paired_difference([dataclasses.replace(plain, scenes_N=scenes)], resamples=50)
    expected = [
        within_srcc(a, plain.mos_N, scenes) - within_srcc(b, plain.mos_N, scenes)
        for a, b in zip(plain.method_DN, plain.rival_DN, strict=True)
    ]
    assert found.difference == pytest.approx(np.mean(expected))
    assert found.low < found.difference < found.high

"""The stop rule where the gain is known: labels of a linear model, and populations large enough to measure it."""

from __future__ import annotations

import numpy as np
import pytest

from grmp_core.evaluation.metrics import srcc
from grmp_core.planning import label_gain
from grmp_core.planning.dual_ridge import dual_residual_ridge
from grmp_core.planning.label_gain import MIN_LABELS, MORE, expected_gain

FEATURES = 32


class Population:
    """Images whose label is the base, a direction in feature space, and noise."""

    def __init__(self, count: int, noise: float, strength: float) -> None:
        rng = np.random.default_rng(0)
        scale = np.arange(1, FEATURES + 1) ** -0.5
        self.features, self.base = rng.normal(size=(count, FEATURES)) * scale, rng.normal(size=count)
        direction = self.features @ (rng.normal(size=FEATURES) * scale)
        self.labels = self.base + strength * direction / direction.std() + noise * rng.normal(size=count)

    def learned(self, rows: np.ndarray, test: np.ndarray) -> float:
        train = self.features[rows]
        predicted = dual_residual_ridge(
            train @ train.T, self.base[rows], self.labels[rows], self.features[test] @ train.T, self.base[test]
        )
        return srcc(predicted, self.labels[test])

    def gain(self, rows: np.ndarray, seed: int = 0) -> label_gain.LabelGain:
        train = self.features[rows]
        found = expected_gain(train @ train.T, self.base[rows], self.labels[rows], seed=seed)
        assert found is not None
        return found


@pytest.mark.parametrize("count", [30, 60])
def test_the_interval_holds_the_gain_that_ten_labels_more_bring(count: int):
    population = Population(2000, noise=0.5, strength=1.0)
    rng = np.random.default_rng(1)
    orders = [rng.permutation(2000) for _ in range(60)]
    came = [population.learned(o[: count + MORE], o[1500:]) - population.learned(o[:count], o[1500:]) for o in orders]
    found = [population.gain(order[:count]) for order in orders[:12]]
    holds = [gain.low <= np.mean(came) <= gain.high for gain in found]
    assert np.mean(holds) >= 0.75
    assert np.mean([gain.gain for gain in found]) == pytest.approx(np.mean(came), abs=0.012)


def test_labels_that_only_need_the_base_are_enough_soon_and_others_are_not():
    easy, hard = Population(400, noise=0.05, strength=0.0), Population(400, noise=0.2, strength=3.0)
    assert easy.gain(np.arange(40)).is_enough(0.01)
    assert not hard.gain(np.arange(20)).is_enough(0.01)


def test_the_law_is_recovered_from_curves_that_follow_it():
    sizes = np.array([10, 15, 22, 30])
    curves = np.stack([0.8 + 0.01 * repeat - (1 + 0.1 * (-1) ** repeat) / np.sqrt(sizes) for repeat in range(10)])
    slope, error = label_gain._slope(sizes, curves, ratio=0.5)
    assert slope == pytest.approx(1)
    assert error == pytest.approx(np.sqrt((0.1 + 0.5) * 0.01 * 10 / 9))


def test_the_same_labels_give_the_same_numbers_and_too_few_give_none():
    population = Population(100, noise=0.5, strength=1.0)
    assert population.gain(np.arange(30), seed=3) == population.gain(np.arange(30), seed=3)
    few = np.arange(MIN_LABELS - 1)
    assert expected_gain(np.eye(len(few)), population.base[few], population.labels[few]) is None
    assert expected_gain(np.eye(30), np.zeros(30), np.ones(30)) is None

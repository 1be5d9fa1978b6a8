"""Held-out predictions at the epoch that the other folds choose."""

from __future__ import annotations

import math

import numpy as np

from grmp_core.learning.cross_fitting import best_epoch, cross_fitted

ROWS = [np.array([0, 3, 6]), np.array([1, 4, 7]), np.array([2, 5, 8])]
QUALITY = np.linspace(0.1, 0.9, 9)


def curve_where(order_by_epoch_and_fold: dict[int, tuple[float, float, float]]) -> list[tuple[int, list[np.ndarray]]]:
    """Predictions of each fold: 1 in the order of the labels, -1 turned around, plus the epoch to know them by."""
    return [
        (epoch, [10 * epoch + sign * QUALITY[rows] for sign, rows in zip(signs, ROWS, strict=True)])
        for epoch, signs in order_by_epoch_and_fold.items()
    ]


def test_a_fold_s_own_labels_do_not_choose_its_epoch():
    """Fold 0 is right in epoch 2, which its own labels would choose; the others are right in epoch 1."""
    curve = curve_where({1: (-1, 1, 1), 2: (1, -1, -1)})
    found = cross_fitted(curve, ROWS, QUALITY, last=2)
    np.testing.assert_array_equal(found[ROWS[0]], 10 - QUALITY[ROWS[0]])


def test_every_image_has_one_prediction_and_a_single_fold_none():
    curve = curve_where({1: (1, 1, 1)})
    assert np.isfinite(cross_fitted(curve, ROWS, QUALITY, last=1)).all()
    assert np.isnan(cross_fitted([(1, [QUALITY[ROWS[0]]])], ROWS[:1], QUALITY, last=1)).all()


def test_without_a_defined_score_the_last_epoch_counts():
    constant = [(epoch, [np.full(3, epoch / 10)] * 3) for epoch in (1, 2)]
    np.testing.assert_array_equal(cross_fitted(constant, ROWS, QUALITY, last=2), 0.2)
    assert best_epoch([(1, math.nan), (2, 0.5), (3, 0.5)], last=3) == (2, 0.5)

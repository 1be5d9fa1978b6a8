"""The dual form of ridge regression against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from grmp_core.errors import InputError
from grmp_core.evaluation.ridge import STRENGTHS, residual_ridge
from grmp_core.planning.dual_ridge import dual_residual_ridge, dual_ridge


@pytest.mark.parametrize(("labelled", "features"), [(5, 20), (30, 64), (60, 10)])
def test_predictions_are_those_of_ridge_with_leave_one_out(labelled: int, features: int):
    rng = np.random.default_rng(labelled)
    train, test = rng.normal(1, 2, (labelled, features)), rng.normal(1, 2, (9, features))
    target = train[:, 0] + rng.normal(size=labelled)
    expected = RidgeCV(alphas=STRENGTHS).fit(train, target).predict(test)
    assert dual_ridge(train @ train.T, target, test @ train.T) == pytest.approx(expected, abs=1e-8)


def test_images_that_are_there_twice_do_not_matter_to_the_algebra():
    rng = np.random.default_rng(3)
    train = np.repeat(rng.normal(size=(8, 5)), 2, axis=0)
    target, test = rng.normal(size=16), rng.normal(size=(4, 5))
    expected = RidgeCV(alphas=STRENGTHS).fit(train, target).predict(test)
    assert dual_ridge(train @ train.T, target, test @ train.T) == pytest.approx(expected, abs=1e-7)


def test_the_residual_form_is_that_of_standardized_features():
    rng = np.random.default_rng(4)
    train = rng.normal(size=(25, 40))
    train = (train - train.mean(axis=0)) / train.std(axis=0)
    test, base, base_test = rng.normal(size=(9, 40)), rng.random(25), rng.random(9)
    target = 3 * base + train[:, 1] + rng.normal(size=25)
    expected = residual_ridge(train, base, target, test, base_test)
    found = dual_residual_ridge(train @ train.T, base, target, test @ train.T, base_test)
    assert found == pytest.approx(expected, abs=1e-8)


def test_a_base_that_is_constant_gives_ridge_alone():
    rng = np.random.default_rng(5)
    train, test, target = rng.normal(size=(12, 4)), rng.normal(size=(3, 4)), rng.normal(size=12)
    alone = dual_ridge(train @ train.T, target, test @ train.T)
    assert dual_residual_ridge(train @ train.T, np.ones(12), target, test @ train.T, np.ones(3)) == pytest.approx(alone)


def test_one_label_is_too_few():
    with pytest.raises(InputError, match="needs 2"):
        dual_ridge(np.ones((1, 1)), np.ones(1), np.ones((2, 1)))

"""Kernel regression against the closed form of a kernel machine with an intercept, solved here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.kernel_ridge import KernelRidge

from grmp_core.errors import InputError
from grmp_core.evaluation.kernel_regression import BANDWIDTHS, STRENGTHS, fit_kernel_regression, kernel_regression


def problem(rows: int, features: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    train, test = (rng.normal(3, 2, (n, features)) for n in (rows, 6))
    return train, np.sin(train[:, 0]) + 0.1 * rng.normal(size=rows) + 50, test


def closed_form(train, target, test, scale: float, strength: float) -> np.ndarray:
    """Coefficients and intercept from one linear system, [[K + strength, 1], [1, 0]] [a, b] = [y, 0]."""
    ones = np.ones((len(train), 1))
    kernel = np.exp(-(cdist(train, train) ** 2) / (2 * scale**2))
    system = np.block([[kernel + strength * np.eye(len(train)), ones], [ones.T, np.zeros((1, 1))]])
    solution = np.linalg.solve(system, np.append(target, 0.0))
    return np.exp(-(cdist(test, train) ** 2) / (2 * scale**2)) @ solution[:-1] + solution[-1]


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both by the mean and spread of `train`, and the median distance there."""
    x, y = ((part - train.mean(axis=0)) / train.std(axis=0) for part in (train, test))
    return x, y, float(np.median(cdist(x, x)[np.triu_indices(len(x), 1)]))


@pytest.mark.parametrize(("rows", "features", "seed"), [(12, 3, 0), (10, 40, 1), (30, 2, 2)])
def test_the_prediction_is_the_closed_form_with_the_best_leave_one_out(rows, features, seed):
    train, target, test = problem(rows, features, seed)
    x, y, distance = standardized(train, test)
    errors = {}
    for scale in np.array(BANDWIDTHS) * distance:
        for strength in STRENGTHS:
            rest = [np.delete(np.arange(rows), i) for i in range(rows)]
            left_out = [closed_form(x[r], target[r], x[[i]], scale, strength)[0] for i, r in enumerate(rest)]
            errors[scale, strength] = np.mean((np.array(left_out) - target) ** 2)
    scale, strength = min(errors, key=lambda pair: errors[pair])
    expected = closed_form(x, target, y, scale, strength)
    np.testing.assert_allclose(kernel_regression(train, target, test), expected, atol=1e-6)


def test_two_images_by_hand():
    """Standardized they are -1 and 1, the kernel between them k: the slope's coefficient is 5 / (1 - k + strength)."""
    fitted = fit_kernel_regression(np.array([[0.0], [2.0]]), np.array([10.0, 20.0]))
    k = np.exp(-4 * fitted[1].gamma)
    at_first = 15 - 5 * (1 - k) / (1 - k + fitted[-1].alpha_)
    assert fitted.predict(np.array([[0.0], [1.0]])) == pytest.approx([at_first, 15.0])


def test_it_is_scikit_learns_kernel_ridge_where_the_kernel_is_centred():
    train, target, test = problem(15, 4, 3)
    fitted = fit_kernel_regression(train, target)
    x, y, _ = standardized(train, test)
    gamma = fitted[1].gamma
    kernel = np.exp(-gamma * cdist(x, x) ** 2)
    across = np.exp(-gamma * cdist(y, x) ** 2)
    across = across - across.mean(axis=1, keepdims=True) - kernel.mean(axis=0) + kernel.mean()
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
    oracle = KernelRidge(alpha=fitted[-1].alpha_, kernel="precomputed").fit(centred, target - target.mean())
    np.testing.assert_allclose(fitted.predict(test), oracle.predict(across) + target.mean(), atol=1e-6)


def test_a_curve_that_no_line_follows_is_followed():
    rng = np.random.default_rng(4)
    train, test = rng.uniform(-1, 1, (40, 1)), np.linspace(-0.9, 0.9, 20)[:, None]
    np.testing.assert_allclose(kernel_regression(train, train[:, 0] ** 2, test), test[:, 0] ** 2, atol=0.05)


def test_equal_images_give_their_mean():
    predicted = kernel_regression(np.ones((3, 2)), np.array([1.0, 2.0, 6.0]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    assert predicted == pytest.approx([3.0, 3.0])


def test_one_labelled_image_is_refused():
    with pytest.raises(InputError, match="leave-one-out needs 2"):
        kernel_regression(np.ones((1, 3)), np.ones(1), np.ones((2, 3)))

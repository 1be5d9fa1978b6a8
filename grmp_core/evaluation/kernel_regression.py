"""Kernel regression on frozen features: what a linear probe is, with a similarity of images in the place of a line."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from grmp_core.errors import InputError

STRENGTHS = np.logspace(-3, 2, 11)
"""Ridge strengths that are tried."""
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Standard deviations of the kernel that are tried, as multiples of the median distance of two labelled images."""


def fit_kernel_regression(features_ND: np.ndarray, target_N: np.ndarray) -> Pipeline:
    """Ridge regression with a Gaussian kernel exp(-d² / 2 bandwidth²) of standardized features and a free intercept.

    Bandwidth and strength have the least mean squared leave-one-out error, which is exact: scikit-learn's `Nystroem`
    with all images gives the kernel's own coordinates, and `RidgeCV` leaves one image out in them.

    GRepQ (Srinath et al. 2024) reports a simple regressor on features, which its code leaves to the reader as "SVR
    (ridge regression)" with a strength of 0.1 to 100. With a wide kernel this is that, with a narrow one the mean of
    similar images.

    InputError for fewer than two images.
    """
    count = len(target_N)
    if count < 2:
        raise InputError(f"kernel regression: {count} labelled images, but leave-one-out needs 2; label more")
    features_ND = np.asarray(features_ND, dtype=np.float64)
    distance = float(np.median(pdist(StandardScaler().fit_transform(features_ND)))) or 1.0
    fits = []
    for multiple in BANDWIDTHS:
        kernel = Nystroem(gamma=0.5 / (multiple * distance) ** 2, n_components=count, random_state=0)
        fits.append(make_pipeline(StandardScaler(), kernel, RidgeCV(alphas=STRENGTHS)).fit(features_ND, target_N))
    return max(fits, key=lambda fit: float(fit[-1].best_score_))


def kernel_regression(train_ND: np.ndarray, target_N: np.ndarray, test_MD: np.ndarray) -> np.ndarray:
    """-> (M,) predictions for `test_MD`, in the unit of `target_N`. See `fit_kernel_regression`."""
    return fit_kernel_regression(train_ND, target_N).predict(np.asarray(test_MD, dtype=np.float64))

"""Ridge regression on frozen features: the linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike
from scipy.linalg import null_space
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.splits import draw_shots, split

STRENGTHS = np.logspace(-2, 5, 29)
"""Strengths that are tried, for standardized features. The largest leaves nearly the mean, whose ranks still count."""


def fit_ridge(features_ND: np.ndarray, target_N: np.ndarray, weight_N: np.ndarray | None = None) -> Pipeline:
    """scikit-learn's `RidgeCV` on standardized features; the strength has the least mean squared leave-one-out error.

    Leave-one-out is exact, also with more features than images. The fitted strength is `fit_ridge(...)[-1].alpha_`.
    weight_N: how much the squared error of an image counts; null: all alike.
    InputError for fewer than two images.
    """
    if len(target_N) < 2:
        raise InputError(f"ridge regression: {len(target_N)} labelled images, but leave-one-out needs 2; label more")
    pipeline = make_pipeline(StandardScaler(), RidgeCV(alphas=STRENGTHS))
    weights = {} if weight_N is None else {"ridgecv__sample_weight": weight_N}
    return pipeline.fit(np.asarray(features_ND, dtype=np.float64), target_N, **weights)


def ridge(
    train_ND: np.ndarray, target_N: np.ndarray, test_MD: np.ndarray, weight_N: np.ndarray | None = None
) -> np.ndarray:
    """-> (M,) predictions for `test_MD`, in the unit of `target_N`. See `fit_ridge`."""
    return fit_ridge(train_ND, target_N, weight_N).predict(np.asarray(test_MD, dtype=np.float64))


def residual_ridge(
    train_ND: np.ndarray,
    base_N: np.ndarray,
    target_N: np.ndarray,
    test_MD: np.ndarray,
    base_M: np.ndarray,
    weight_N: np.ndarray | None = None,
) -> np.ndarray:
    """-> (M,) predictions: a line through the score without a label (`base`), and `ridge` on what it leaves.

    The bar for anything that adapts a backbone whose own score is already good. With a constant base the line is the
    mean. weight_N: as of `fit_ridge`. InputError for fewer than two images.
    """
    root_N = None if weight_N is None else np.sqrt(weight_N)  # NumPy weighs errors before it squares them
    constant = Polynomial([float(np.average(target_N, weights=weight_N))])
    line = Polynomial.fit(base_N, target_N, 1, w=root_N) if np.ptp(base_N) > 0 else constant
    return line(base_M) + ridge(train_ND, target_N - line(base_N), test_MD, weight_N)


def scene_ridge(
    train_ND: np.ndarray,
    base_N: np.ndarray,
    target_N: np.ndarray,
    scenes_N: ArrayLike,
    test_MD: np.ndarray,
    base_M: np.ndarray,
    weight_N: np.ndarray | None = None,
) -> np.ndarray:
    """-> (M,) predictions: ridge regression with the scene and the score without a label (`base`) as covariates.

    Where the labelled pictures of one scene are better than those of another, the scene explains that and the features
    need not. Covariates are not shrunk: features and target are projected onto what is orthogonal to them (Frisch and
    Waugh 1933), in coordinates that are independent, so that leave-one-out stays honest. Predictions have the mean
    effect of the scenes, since a test picture's quality does not go with its scene.

    weight_N: as of `fit_ridge`. InputError for fewer images than the covariates and two more.
    """
    scaler = StandardScaler().fit(np.asarray(train_ND, dtype=np.float64))
    features_ND = scaler.transform(train_ND)
    scene_NS = OneHotEncoder(sparse_output=False).fit_transform(np.asarray(scenes_N).reshape(-1, 1))
    root_N1 = np.ones((len(target_N), 1)) if weight_N is None else np.sqrt(weight_N)[:, None]
    covariates_NC = root_N1 * np.column_stack([base_N, scene_NS])
    free_NF = null_space(covariates_NC.T)
    if free_NF.shape[1] < 2:
        raise InputError(
            f"scene ridge: {len(target_N)} labelled images of {scene_NS.shape[1]} scenes leave nothing for the "
            "features; label more"
        )
    weighted_ND, weighted_N = root_N1 * features_ND, root_N1[:, 0] * target_N
    model = RidgeCV(alphas=STRENGTHS, fit_intercept=False).fit(free_NF.T @ weighted_ND, free_NF.T @ weighted_N)
    left_N = weighted_N - weighted_ND @ model.coef_
    slope, *effects = np.linalg.lstsq(covariates_NC, left_N, rcond=None)[0]
    offset = float(np.mean(scene_NS @ np.array(effects)))
    return scaler.transform(np.asarray(test_MD, dtype=np.float64)) @ model.coef_ + slope * np.asarray(base_M) + offset


def probe_srcc(
    features_ND: np.ndarray, quality_N: np.ndarray, reference_ids: Sequence[str], shots: int, num_splits: int = 10
) -> np.ndarray:
    """(num_splits,) test SRCC of ridge regression on `shots` labelled images, one value per split."""
    values = []
    for seed in range(num_splits):
        parts = split(reference_ids, seed)
        labelled = draw_shots(parts, shots, seed)
        predicted = ridge(features_ND[labelled], quality_N[labelled], features_ND[parts.test])
        values.append(srcc(predicted, quality_N[parts.test]))
    return np.array(values)

"""Ridge regression from inner products of features: many fits on parts of one small set of labels.

The same predictions as `evaluation.ridge` gives for features that are standardized already, at a fraction of the time:
the inner products are computed once, and a fit costs one small eigendecomposition.

Shapes: L labelled images, M images to predict, A strengths.
"""

from __future__ import annotations

import numpy as np

from grmp_core.errors import InputError
from grmp_core.evaluation.ridge import STRENGTHS


def dual_ridge(gram_LL: np.ndarray, target_L: np.ndarray, cross_ML: np.ndarray) -> np.ndarray:
    """-> (M,) predictions in the unit of `target_L`, by the strength with the least squared leave-one-out error.

    gram_LL: inner products of the labelled images' features; cross_ML: those of the others with them. The intercept is
    not penalized. Leave-one-out in closed form: the residual over one minus the leverage. InputError for fewer than
    two labels.
    """
    count = len(target_L)
    if count < 2:
        raise InputError(f"ridge regression: {count} labelled images, but leave-one-out needs 2; label more")
    mean_L = gram_LL.mean(axis=0)
    centred_LL = gram_LL - mean_L - mean_L[:, None] + mean_L.mean()
    values_L, vectors_LL = np.linalg.eigh(centred_LL)
    rotated_L = vectors_LL.T @ (target_L - target_L.mean())
    shrink_LA = STRENGTHS / (np.maximum(values_L, 0)[:, None] + STRENGTHS)
    residual_LA = vectors_LL @ (shrink_LA * rotated_L[:, None])
    free_LA = vectors_LL**2 @ shrink_LA - 1 / count
    best = int(np.argmin(((residual_LA / np.maximum(free_LA, 1e-12)) ** 2).sum(axis=0)))
    weights_L = residual_LA[:, best] / STRENGTHS[best]
    return target_L.mean() + (cross_ML - mean_L) @ weights_L  # the weights add up to 0


def dual_residual_ridge(
    gram_LL: np.ndarray, base_L: np.ndarray, target_L: np.ndarray, cross_ML: np.ndarray, base_M: np.ndarray
) -> np.ndarray:
    """-> (M,) predictions: a line through the score without a label (`base`), and `dual_ridge` on what it leaves.

    `evaluation.ridge.residual_ridge` for standardized features. InputError for fewer than two labels.
    """
    spread_L = base_L - base_L.mean()
    variance = spread_L @ spread_L
    slope = spread_L @ target_L / variance if variance > 0 else 0.0
    line_L, line_M = (target_L.mean() + slope * (base - base_L.mean()) for base in (base_L, base_M))
    return line_M + dual_ridge(gram_LL, target_L - line_L, cross_ML)

"""Ridge regression on frozen features: the linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.splits import draw_shots, split

_RIDGE_STRENGTHS = np.logspace(-2, 5, 29)


def probe_srcc(
    features_ND: np.ndarray, quality_N: np.ndarray, reference_ids: Sequence[str], shots: int, num_splits: int = 10
) -> np.ndarray:
    """(num_splits,) test SRCC of ridge regression on `shots` labelled images, one value a split."""
    values = []
    for seed in range(num_splits):
        parts = split(reference_ids, seed)
        labelled = draw_shots(parts, shots, seed)
        predicted = ridge(features_ND[labelled], quality_N[labelled], features_ND[parts.test])
        values.append(srcc(predicted, quality_N[parts.test]))
    return np.array(values)


def ridge(train_ND: np.ndarray, target_N: np.ndarray, test_MD: np.ndarray) -> np.ndarray:
    """Ridge regression on standardized features, its strength chosen by leave-one-out on the training rows.

    The leave-one-out residual is in closed form: residual_i / (1 − hat_ii) (Allen's PRESS statistic).
    """
    mean, std = train_ND.mean(axis=0), train_ND.std(axis=0) + 1e-6
    x, offset = (train_ND - mean) / std, target_N.mean()
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    projected = left.T @ (target_N - offset)

    def left_out_error(strength: float) -> float:
        shrink = singular**2 / (singular**2 + strength)
        hat = (left**2 * shrink).sum(axis=1) + 1 / len(x)
        return float(np.mean(((target_N - offset - left @ (shrink * projected)) / (1 - hat).clip(1e-3)) ** 2))

    strength = min(_RIDGE_STRENGTHS, key=left_out_error)
    weights = right.T @ (singular / (singular**2 + strength) * projected)
    return (test_MD - mean) / std @ weights + offset

"""Weights of several models by their errors on images that they have not learned from (stacking, Breiman 1996)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from grmp_core.errors import InputError


def stacking_weights(predicted_NM: np.ndarray, quality_N: np.ndarray) -> np.ndarray:
    """(M,) weights, none below 0, adding up to 1, whose mean prediction has the least squared error.

    Where a model has learned from an image (NaN) nothing is known of it: there the others alone are held to account,
    each by its own error. The weights on the simplex come from non-negative least squares (Lawson and Hanson 1974) with
    a row of ones: it finds their direction, and dividing by the sum finds their length.

    Args:
        predicted_NM: predicted qualities of N images by M models; NaN where a model has learned from the image.
        quality_N: human scores in [0, 1].

    Raises:
        InputError: a model has no image that it has not learned from.
    """
    known_NM = np.isfinite(predicted_NM)
    if not known_NM.any(axis=0).all():
        number = int(np.flatnonzero(~known_NM.any(axis=0))[0])
        raise InputError(f"model {number} of the ensemble has learned from every image that it could be judged on")
    errors_NM = np.where(known_NM, predicted_NM - quality_N[:, None], 0.0)
    share_M = known_NM.mean(axis=0)  # a model that is known on few images must not seem to be a good one
    rows = np.vstack([errors_NM / np.sqrt(share_M), np.ones(predicted_NM.shape[1])])
    solution, _ = nnls(rows, np.append(np.zeros(len(errors_NM)), 1.0))
    return solution / solution.sum()

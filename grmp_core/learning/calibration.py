"""The line through quality logits that fits a set of labels, and keeps their order."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

SCALE_BOUNDS = (0.1, 10.0)
"""No label turns the order of the images around: with ten labels or fewer, chance alone would."""
_PRIOR = 1e-3
"""Weight of the calibration's prior, against a mean cross-entropy."""


def fit_calibration(margin_N: np.ndarray, quality_N: np.ndarray) -> tuple[float, float]:
    """(scale, offset) with the least cross-entropy of sigmoid(scale * margin + offset) against the qualities in [0, 1].

    Platt's scaling (1999) with soft labels. The scale stays within `SCALE_BOUNDS`, and a weak prior holds it at 1 where
    labels are few.
    """

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        logit_N = ab[0] * margin_N + ab[1]
        residual_N = expit(logit_N) - quality_N
        value = np.mean(np.logaddexp(0, logit_N) - quality_N * logit_N) + _PRIOR * (ab[0] - 1) ** 2
        slope = np.mean(residual_N * margin_N) + 2 * _PRIOR * (ab[0] - 1)
        return float(value), np.array([slope, residual_N.mean()])

    fit = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[SCALE_BOUNDS, (-10, 10)])
    return float(fit.x[0]), float(fit.x[1])


def within_bounds(calibration_2: Tensor) -> Tensor:
    """A learned (scale, offset) with the scale moved back into `SCALE_BOUNDS`."""
    scale, offset = calibration_2
    return torch.stack([scale.clamp(*SCALE_BOUNDS), offset])

"""Intervals around a model's scores from its held-out errors.

One model, trained on all labels, with the errors of models that were trained on the other folds: the jackknife by
folds. Barber, Candès, Ramdas and Tibshirani (2021, "Predictive inference with the jackknife+") show that it covers
as asked where the fit is stable, without a guarantee for any fit. CV+ has a weaker guarantee for any fit, but needs the
models of all folds in scoring.

Errors are divided by the spread that opinions have at the predicted quality. On a scale with two ends it is largest in
the middle (the SOS hypothesis of Hoßfeld, Schatz and Egger 2011), and errors of predictions follow it.
"""

from __future__ import annotations

import numpy as np

_LEAST_VARIANCE = 0.04
"""Of the spread, so that intervals do not vanish at the ends of the scale: that of a quality of .96."""


def spread_of(quality: np.ndarray | float) -> np.ndarray:
    """Square root of quality (1 - quality), at least .2: by which errors are divided."""
    quality = np.asarray(quality, dtype=np.float64)
    return np.sqrt(np.maximum(quality * (1 - quality), _LEAST_VARIANCE))


def margin_of(predicted_N: np.ndarray, quality_N: np.ndarray, coverage: float) -> float:
    """Half the width of the interval, in units of `spread_of`: the held-out errors' quantile at `coverage`.

    The quantile is that of N + 1 values of which one is unknown, interpolated between two of them (NumPy's `weibull`),
    so that the coverage is right on average over labels. Infinite where there are too few errors to tell:
    N < coverage / (1 - coverage), which for .9 are fewer than 9.

    Args:
        predicted_N: held-out predictions in [0, 1].
        quality_N: the labels in [0, 1].
        coverage: in (0, 1).
    """
    errors_N = np.abs(np.asarray(quality_N, dtype=np.float64) - predicted_N) / spread_of(predicted_N)
    if len(errors_N) == 0 or (len(errors_N) + 1) * coverage > len(errors_N) + 1e-9:
        return float("inf")
    return float(np.quantile(errors_N, coverage, method="weibull"))


def interval_of(quality: np.ndarray | float, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the interval, inside [0, 1]; NaN where the quality is."""
    quality = np.asarray(quality, dtype=np.float64)
    half = margin * spread_of(quality)
    return np.clip(quality - half, 0, 1), np.clip(quality + half, 0, 1)

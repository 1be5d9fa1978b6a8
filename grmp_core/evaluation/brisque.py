"""The 36 natural-scene statistics of BRISQUE: what few-shot models are compared with, free of any learning.

Source: Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012.

Shapes: images (H, W, 3) uint8 RGB; fields (H, W) float32.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.special import gammaln

from grmp_core.errors import InputError

NUM_FEATURES = 36
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # horizontal, vertical, both diagonals
_SHAPES = np.arange(0.2, 10.0, 0.001)
_WINDOW_PX = 7
_SIGMA_PX = 7 / 6
_SMALLEST_PX = 2 * _WINDOW_PX


def brisque_features(image_HW3: np.ndarray) -> np.ndarray:
    """(36,) float64: 18 statistics at full size, then 18 at half size. InputError below 14 px a side.

    Of one scale: shape and variance of the normalized luminance, then shape, mean, left and right variance of the
    products of neighbours in four directions.
    """
    if min(image_HW3.shape[:2]) < _SMALLEST_PX:
        raise InputError(f"BRISQUE wants {_SMALLEST_PX} px a side or more, got {image_HW3.shape[:2]}; leave it out")
    luminance = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
    half = cv2.resize(luminance, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return np.concatenate([_statistics(normalized_luminance(field)) for field in (luminance, half)])


def normalized_luminance(field_HW: np.ndarray) -> np.ndarray:
    """Mean-subtracted contrast-normalized coefficients: (I - mean) / (deviation + 1) in a Gaussian 7 px window."""
    mean = cv2.GaussianBlur(field_HW, (_WINDOW_PX, _WINDOW_PX), _SIGMA_PX)
    variance = cv2.GaussianBlur(field_HW * field_HW, (_WINDOW_PX, _WINDOW_PX), _SIGMA_PX) - mean * mean
    return (field_HW - mean) / (np.sqrt(np.maximum(variance, 0)) + 1)


def fit_generalized_gaussian(values: np.ndarray) -> tuple[float, float]:
    """(shape, variance) of a symmetric generalized Gaussian by its moments; shape 2 is the normal, 1 the Laplacian."""
    variance = float(np.mean(values**2))
    mean_size = float(np.mean(np.abs(values)))
    if mean_size == 0:
        return float(_SHAPES[-1]), 0.0
    ratios = np.exp(gammaln(1 / _SHAPES) + gammaln(3 / _SHAPES) - 2 * gammaln(2 / _SHAPES))
    return _nearest_shape(ratios, variance / mean_size**2), variance


def fit_asymmetric(values: np.ndarray) -> tuple[float, float, float, float]:
    """(shape, mean, left variance, right variance) of an asymmetric generalized Gaussian by its moments."""
    left = float(np.sqrt(_mean_square(values[values < 0])))
    right = float(np.sqrt(_mean_square(values[values > 0])))
    square = float(np.mean(values**2))
    if square == 0 or right == 0 or left == 0:
        return float(_SHAPES[-1]), 0.0, left**2, right**2
    lean = left / right
    observed = float(np.mean(np.abs(values))) ** 2 / square * (lean**3 + 1) * (lean + 1) / (lean**2 + 1) ** 2
    ratios = np.exp(2 * gammaln(2 / _SHAPES) - gammaln(1 / _SHAPES) - gammaln(3 / _SHAPES))
    shape = _nearest_shape(ratios, observed)
    scale = np.exp(gammaln(2 / shape) - 0.5 * (gammaln(1 / shape) + gammaln(3 / shape)))
    return shape, float((right - left) * scale), left**2, right**2


def _statistics(field_HW: np.ndarray) -> np.ndarray:
    values = [*fit_generalized_gaussian(field_HW)]
    for down, right in _SHIFTS:
        values += fit_asymmetric((field_HW * np.roll(field_HW, (down, right), axis=(0, 1))).ravel())
    return np.array(values)


def _mean_square(values: np.ndarray) -> float:
    return float(np.mean(values**2)) if len(values) else 0.0


def _nearest_shape(ratios: np.ndarray, observed: float) -> float:
    return float(_SHAPES[np.argmin((ratios - observed) ** 2)])

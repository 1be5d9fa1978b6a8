"""Checks of the two sides that a metric compares, and ties of values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from grmp_core.errors import InputError

TIE_TOLERANCE = 8 * 2.0**-23
"""Relative difference up to which two values are a tie: 8 units in the last place of float32.

A float32 model gives one picture scores up to 6 units apart when it is run in batches of different sizes (measured with
ViT-B/16 at a logit scale of 100; grmp-nano: 1). In bfloat16 that is up to .02, too much to tell from a real difference;
so what is scored together is run in batches of one size, in which a picture's score does not depend on the others.
"""


def checked_pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (N,). InputError where shapes differ, are not one-dimensional, or a value is not finite."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 1 or len(x) != len(y):
        raise InputError(f"metrics: shapes {x.shape} and {y.shape} must be one-dimensional and equal")
    for name, values in (("first", x), ("second", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InputError(f"metrics: {len(bad)} values of the {name} input are not finite, first at index {bad[0]}")
    return x, y


def no_correlation(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether fewer than two values, or one side that is all one tie, leave correlations undefined."""
    return len(x) < 2 or any(np.ptp(merge_ties(side)) == 0 for side in (x, y))


def merge_ties(values: ArrayLike) -> np.ndarray:
    """(N,) values, each set to the smallest of those that it ties with; see `TIE_TOLERANCE`.

    From the smallest upwards, a value belongs to the tie that the one before began if it is within the tolerance of
    that tie's first. So a tie is never wider than the tolerance, however densely the values lie.
    """
    x = np.asarray(values, dtype=np.float64)
    distinct, inverse = np.unique(x, return_inverse=True)
    merged = distinct.copy()
    for i in np.flatnonzero(_tied(distinct[:-1], distinct[1:])) + 1:
        if _tied(merged[i - 1], distinct[i]):
            merged[i] = merged[i - 1]
    return merged[inverse]


def _tied(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return high - low <= TIE_TOLERANCE * np.maximum(np.abs(low), np.abs(high))

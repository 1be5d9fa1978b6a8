"""Which epoch held-out images choose, and held-out predictions whose own labels did not choose it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from grmp_core.evaluation.metrics import srcc


def cross_fitted(
    curve: Sequence[tuple[int, list[np.ndarray]]], rows: Sequence[np.ndarray], quality_N: np.ndarray, last: int
) -> np.ndarray:
    """Held-out predictions whose own labels did not choose their epoch: of each fold those at the epoch with the best
    SRCC over the other folds, float64 (N,).

    The others' models have learned from this fold's labels, so the choice is not quite free of them; that would take
    folds inside each fold. NaN for images of no fold, and with a single one.

    Args:
        curve: as `held_out_curve` gives it.
        rows: the held-out rows of each fold, in its order.
        last: epoch where no SRCC is defined.
    """
    held_out_N = np.full(len(quality_N), math.nan)
    for fold, own in enumerate(rows if len(rows) > 1 else ()):
        others = [i for i in range(len(rows)) if i != fold]
        scores = [
            (epoch, held_out_srcc([predicted[i] for i in others], [rows[i] for i in others], quality_N))
            for epoch, predicted in curve
        ]
        held_out_N[own] = dict(curve)[best_epoch(scores, last)[0]][fold]
    return held_out_N


def held_out_srcc(predicted: Sequence[np.ndarray], rows: Sequence[np.ndarray], quality_N: np.ndarray) -> float:
    """SRCC over the held-out images of all folds, whose rows are `rows`."""
    return srcc(np.concatenate(predicted), quality_N[np.concatenate(rows)])


def best_epoch(scores: Sequence[tuple[int, float]], last: int) -> tuple[int, float]:
    """The first epoch with the best score, and that; (last, NaN) where none is defined."""
    usable = [(epoch, score) for epoch, score in scores if math.isfinite(score)]
    return max(usable, key=lambda pair: pair[1]) if usable else (last, math.nan)

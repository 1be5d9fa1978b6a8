"""Whether one method is better than another: bootstrap over test images and label draws.

Shapes: D label draws of a fold, N test images of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import MIN_SCENE_IMAGES

RESAMPLES = 2000
MIN_GROUPS = 2
"""Of a fold's test images; one alone would be drawn every time."""


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of two methods for the test images of one fold, after each label draw."""

    groups_N: np.ndarray
    """Group of each image; the images of one are drawn together."""
    mos_N: np.ndarray
    method_DN: np.ndarray
    rival_DN: np.ndarray
    scenes_N: np.ndarray | None = None
    """Where given, SRCC is the mean within scenes: see `metrics.within_srcc`."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of SRCC, method less rival, over folds and label draws."""

    difference: float
    low: float
    high: float
    """Ends of the 95 % percentile interval."""
    p: float
    """One-sided: share of the resamples in which the method is not better, counting the data itself as one."""
    draws: int
    images: int


def paired_difference(folds: Sequence[FoldPredictions], seed: int = 0, resamples: int = RESAMPLES) -> PairedDifference:
    """Compare two methods that were given the same labels and tested on the same images.

    A resample draws groups of images with replacement in every fold, and label draws with replacement in every fold.

    InputError without a fold, or for a fold of fewer than `MIN_GROUPS` groups.
    """
    if not folds:
        raise InputError("paired comparison: no label draw has predictions of both methods")
    rng = np.random.default_rng(seed)
    observed = [_differences(fold, np.arange(len(fold.mos_N))).mean() for fold in folds]
    sums = np.zeros(resamples)
    for fold in folds:
        names, group_of = np.unique(fold.groups_N, return_inverse=True)
        if len(names) < MIN_GROUPS:
            raise InputError("paired comparison: a fold has fewer than two groups of test images")
        members = [np.flatnonzero(group_of == g) for g in range(len(names))]
        draws = len(fold.method_DN)
        for r in range(resamples):
            rows = np.concatenate([members[g] for g in rng.integers(len(names), size=len(names))])
            difference_D = _differences(fold, rows)
            sums[r] += difference_D[rng.integers(draws, size=draws)].mean()
    means = sums / len(folds)
    low, high = np.percentile(means, (2.5, 97.5))
    return PairedDifference(
        difference=float(np.mean(observed)),
        low=float(low),
        high=float(high),
        p=float((1 + (means <= 0).sum()) / (resamples + 1)),
        draws=sum(len(fold.method_DN) for fold in folds),
        images=sum(len(fold.mos_N) for fold in folds),
    )


def _differences(fold: FoldPredictions, rows: np.ndarray) -> np.ndarray:
    """(D,) SRCC of the method less that of the rival on the images `rows`; a constant prediction has SRCC 0,
    and so has each without a scene of `MIN_SCENE_IMAGES` images where scenes count."""
    if fold.scenes_N is None:
        return _plain_differences(fold, rows)
    scenes = fold.scenes_N[rows]
    within = [part for name in np.unique(scenes) if len(part := rows[scenes == name]) >= MIN_SCENE_IMAGES]
    if not within:
        return np.zeros(len(fold.method_DN))
    return np.average([_plain_differences(fold, part) for part in within], axis=0, weights=[len(p) for p in within])


def _plain_differences(fold: FoldPredictions, rows: np.ndarray) -> np.ndarray:
    draws = len(fold.method_DN)
    ranks = rankdata(np.concatenate([fold.mos_N[None, rows], fold.method_DN[:, rows], fold.rival_DN[:, rows]]), axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    products = centred[1:] @ centred[0]
    srcc = np.divide(products, norms[1:] * norms[0], out=np.zeros_like(products), where=norms[1:] * norms[0] > 0)
    return srcc[:draws] - srcc[draws:]

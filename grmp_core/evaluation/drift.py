"""How far a set of scores is from an earlier one of the same model, without any human score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from grmp_core.errors import InputError

BINS = 10
SIGNIFICANT = 0.01


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Two distributions of quality."""

    n: int
    reference_n: int
    mean: float
    reference_mean: float
    distance: float
    """Kolmogorov-Smirnov: the largest difference of the two distribution functions, in [0, 1]."""
    p_value: float
    """Of that distance or more, were both drawn from one distribution; for many images."""
    stability_index: float
    """Population stability index over the deciles of the reference, 0 or more: sum of (p - q) log(p / q)."""

    def exceeds(self, max_distance: float) -> bool:
        """Whether the distance is more than `max_distance`, and no chance."""
        return self.distance > max_distance and self.p_value < SIGNIFICANT


def drift_of(quality_N: np.ndarray, reference_M: np.ndarray) -> Drift:
    """Compare qualities with those of the reference. InputError for fewer than two of either."""
    if min(len(quality_N), len(reference_M)) < 2:
        raise InputError(f"{len(quality_N)} scores and {len(reference_M)} of the reference: two of each are needed")
    test = stats.ks_2samp(quality_N, reference_M, method="asymp")
    return Drift(
        n=len(quality_N),
        reference_n=len(reference_M),
        mean=float(np.mean(quality_N)),
        reference_mean=float(np.mean(reference_M)),
        distance=float(test.statistic),
        p_value=float(test.pvalue),
        stability_index=_stability_index(quality_N, reference_M),
    )


def _stability_index(quality_N: np.ndarray, reference_M: np.ndarray) -> float:
    """Half an image is added to every bin, so that an empty one is not infinitely far."""
    edges = np.unique(np.quantile(reference_M, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = []
    for values in (quality_N, reference_M):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
        shares.append(counts / counts.sum())
    p, q = shares
    return float(((p - q) * np.log(p / q)).sum())

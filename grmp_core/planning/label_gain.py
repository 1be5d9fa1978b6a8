"""When to stop: the gain in SRCC that ten labels more are expected to bring, with an interval.

Every repeat holds out some of the labels, and learns from nested parts of the others: the SRCC with the held-out labels
by the number m of those learned from is one learning curve. It is taken as SRCC = a - b / sqrt(m), and from n labels to
n + 10 that gains b (1 / sqrt(n) - 1 / sqrt(n + 10)). b is the mean of the least-squares slopes of all repeats. Repeats
share labels, so the variance of their mean is (1 / repeats + held out / others) times their variance (Nadeau and Bengio
2003), which is on the safe side here.

The learner is the residual ridge on frozen features, which stands for the adaptation.

Shapes: L labels, R repeats, M sizes of parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grmp_core.evaluation.metrics import srcc
from grmp_core.planning.dual_ridge import dual_residual_ridge
from grmp_core.planning.settings import ENOUGH_GAIN
from grmp_core.seeds import generator_of

MORE = 10
"""Labels more that the gain is for."""
MIN_LABELS = 20
"""With fewer there is no estimate."""
REPEATS = 60
HELD_OUT = 0.3
PARTS = (0.4, 0.55, 0.7, 0.85, 1.0)
"""Shares of the labels that are not held out."""
SIDE = 1.2816
"""Standard errors to either side: 80 % of a normal distribution."""


@dataclass(frozen=True, kw_only=True)
class LabelGain:
    """Expected gain in SRCC of `MORE` labels more, and the ends of its 80 % interval."""

    labels: int
    """Labels so far."""
    gain: float
    low: float
    high: float
    srcc: float
    """Mean SRCC with held-out labels, learned from all others."""

    def is_enough(self, below: float = ENOUGH_GAIN) -> bool:
        """Whether even the upper end of the gain is below."""
        return self.high < below


def expected_gain(gram_LL: np.ndarray, base_L: np.ndarray, labels_L: np.ndarray, *, seed: int = 0) -> LabelGain | None:
    """The gain from the labels so far; null with fewer than `MIN_LABELS`, or where most held-out labels are all alike.

    gram_LL: inner products of standardized features (`FeaturePool.gram`). base_L: scores without a label. labels_L: on
    any scale, higher is better. The same arguments give the same numbers.
    """
    count = len(labels_L)
    if count < MIN_LABELS:
        return None
    held_out = round(HELD_OUT * count)
    sizes_M = np.unique(np.round(np.array(PARTS) * (count - held_out)).astype(int))
    rng = generator_of("label gain", seed)
    curves_RM = np.full((REPEATS, len(sizes_M)), np.nan)
    for repeat in range(REPEATS):
        order = rng.permutation(count)
        test, train = order[:held_out], order[held_out:]
        for i, size in enumerate(sizes_M):
            part = train[:size]
            predicted = dual_residual_ridge(
                gram_LL[np.ix_(part, part)], base_L[part], labels_L[part], gram_LL[np.ix_(test, part)], base_L[test]
            )
            curves_RM[repeat, i] = srcc(predicted, labels_L[test])
    curves_RM = curves_RM[np.isfinite(curves_RM).all(axis=1)]
    if len(curves_RM) <= REPEATS / 2:
        return None
    slope, error = _slope(sizes_M, curves_RM, held_out / (count - held_out))
    factor = 1 / np.sqrt(count) - 1 / np.sqrt(count + MORE)
    return LabelGain(
        labels=count,
        gain=float(slope * factor),
        low=float((slope - SIDE * error) * factor),
        high=float((slope + SIDE * error) * factor),
        srcc=float(curves_RM[:, -1].mean()),
    )


def _slope(sizes_M: np.ndarray, curves_RM: np.ndarray, ratio: float) -> tuple[float, float]:
    """-> b of a - b / sqrt(m), mean over the repeats, and its standard error; `ratio`: held-out labels to others."""
    law_M = -1 / np.sqrt(sizes_M)
    law_M = law_M - law_M.mean()
    slopes_R = curves_RM @ law_M / (law_M @ law_M)
    return float(slopes_R.mean()), float(np.sqrt((1 / len(slopes_R) + ratio) * slopes_R.var(ddof=1)))

"""The score above which images pass, with a stated error rate and its confidence.

Images are accepted from the best score downwards. An accepted image is an error where its label is below the bar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from grmp_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Result of `acceptance_threshold`."""

    threshold: float
    """Predictions above it pass: minus infinity where all do, NaN where no threshold keeps the promise."""
    accepted: int
    """Labelled images above it; without a threshold, those of the set that failed, or all of too few."""
    errors: int
    """Those among them whose label is below the bar."""
    precision_low: float
    """Clopper-Pearson lower bound of the precision, at the confidence asked for; NaN without a threshold."""
    share: float
    """Accepted images among all labelled ones."""
    missing: int
    """Labelled images that even a set without an error still lacks; 0 with a threshold."""


def clopper_pearson_low(successes: int, trials: int, confidence: float) -> float:
    """One-sided lower bound of a binomial proportion (Clopper and Pearson 1934); 0 without a success."""
    return float(stats.beta.ppf(1 - confidence, successes, trials - successes + 1)) if successes else 0.0


@cache
def images_needed(precision: float, confidence: float, errors: int = 0) -> int:
    """The least number of accepted images at which so many errors still show `precision`; 59 for .95, .95 and none."""
    low, high = errors, errors + 1
    while not _shown(errors, high, precision, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shown(errors, middle, precision, confidence) else (middle, high)
    return high


def _shown(errors: np.ndarray | int, accepted: np.ndarray | int, precision: float, confidence: float) -> np.ndarray:
    """Whether the exact binomial test rejects a lower precision, which is where `clopper_pearson_low` reaches it."""
    return stats.binom.sf(accepted - errors - 1, accepted, precision) <= 1 - confidence


def acceptance_threshold(
    predicted_N: np.ndarray, passes_N: np.ndarray, precision: float, confidence: float
) -> Acceptance:
    """The lowest threshold whose accepted images pass with at least `precision`, with `confidence`.

    Fixed-sequence testing (see Angelopoulos et al. 2021, "Learn then Test"): the sets of the k best predictions are
    tested in turn, from the smallest k that could show the precision, each at the whole level, until the first that
    does not show it. The threshold is the first prediction outside the set, so that the images in it are independent
    draws of those above it. Equal predictions pass together.

    Args:
        predicted_N: held-out predictions, higher is better; one at a time independent of the others' labels.
        passes_N: bool, whether the label reaches the bar.
        precision, confidence: in (0, 1).

    Raises:
        InputError: no labelled image.
    """
    count = len(predicted_N)
    if count == 0:
        raise InputError("there are no held-out predictions to set a threshold by; adapt the model to labelled images")
    order = np.argsort(-predicted_N, kind="stable")
    ranked, errors_K = predicted_N[order], np.cumsum(~np.asarray(passes_N, dtype=bool)[order])
    first = images_needed(precision, confidence)
    sizes_K = np.arange(1, count + 1)
    whole_K = np.append(ranked[1:] != ranked[:-1], True)  # equal predictions are on one side
    tried_K = np.flatnonzero(whole_K & (sizes_K >= first))
    fails = ~_shown(errors_K[tried_K], sizes_K[tried_K], precision, confidence)
    passed = int(np.argmax(fails)) if fails.any() else len(tried_K)
    best = int(sizes_K[tried_K[passed - 1]]) if passed else 0
    if best == 0:
        tried = int(sizes_K[tried_K[0]]) if len(tried_K) else count
        return Acceptance(
            threshold=math.nan,
            accepted=tried,
            errors=int(errors_K[tried - 1]),
            precision_low=math.nan,
            share=0.0,
            missing=max(0, first - count),
        )
    wrong = int(errors_K[best - 1])
    return Acceptance(
        threshold=float(ranked[best]) if best < count else -math.inf,
        accepted=best,
        errors=wrong,
        precision_low=clopper_pearson_low(best - wrong, best, confidence),
        share=best / count,
        missing=0,
    )

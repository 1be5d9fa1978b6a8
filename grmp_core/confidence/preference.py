"""Which of two images, or of two versions of the same scenes, people would find better on average, by a model's scores
and the held-out errors that it is known to make.

Shapes: S scenes, N held-out predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grmp_core.confidence.intervals import spread_of

DRAWS = 4000
"""Of scenes and errors."""
_AT_ONCE = 2_000_000
"""Numbers in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """The first against the second."""

    probability: float
    """That the first has the higher quality, mean over scenes; in (0, 1)."""
    difference: float
    """Predicted quality of the first minus that of the second, mean over scenes."""
    low: float
    high: float
    """Ends of the interval of the difference."""


def preference(
    first_S: np.ndarray,
    second_S: np.ndarray,
    predicted_N: np.ndarray,
    quality_N: np.ndarray,
    coverage: float,
    seed: int = 0,
) -> Preference:
    """Draw scenes with replacement, and an error for every image; look where the mean difference falls.

    Errors are held-out ones over their spread (`intervals.spread_of`), smoothed by a normal kernel, so that few of them
    do not end the range of what may happen. They are drawn independently, though errors on two versions of one scene go
    together: the interval is rather too wide. An error that all images of one side share is not in it.

    Args:
        first_S, second_S: predicted qualities of the two in [0, 1], scene by scene.
        predicted_N, quality_N: held-out predictions and their labels, 2 at least.
        coverage: of the interval, in (0, 1).
    """
    rng = np.random.default_rng([seed, len(first_S)])
    errors_N = (np.asarray(quality_N, dtype=np.float64) - predicted_N) / spread_of(predicted_N)
    bandwidth = 1.06 * errors_N.std() * len(errors_N) ** -0.2
    both_2S = np.stack([first_S, second_S]).astype(np.float64)
    means = []
    for count in _chunks(DRAWS, max(1, _AT_ONCE // len(first_S))):
        scenes_DS = rng.integers(len(first_S), size=(count, len(first_S)))
        drawn_2DS = both_2S[:, scenes_DS]
        errors_2DS = rng.choice(errors_N, size=drawn_2DS.shape) + bandwidth * rng.normal(size=drawn_2DS.shape)
        truth_2DS = np.clip(drawn_2DS + errors_2DS * spread_of(drawn_2DS), 0, 1)
        means.append((truth_2DS[0] - truth_2DS[1]).mean(axis=1))
    difference_D = np.concatenate(means)
    above = (difference_D > 0).sum() + (difference_D == 0).sum() / 2
    low, high = np.quantile(difference_D, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Preference(
        probability=float((above + 0.5) / (DRAWS + 1)),
        difference=float(both_2S[0].mean() - both_2S[1].mean()),
        low=float(low),
        high=float(high),
    )


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]

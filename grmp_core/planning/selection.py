"""Which images of a pool to label next.

Three things make an image worth a label: nothing like it is labelled yet (coverage), the labels so far do not settle
its quality (disagreement), and few labels are near its predicted quality (spread). A rule is a combination of them.

* Coverage is greedy k-centre (Gonzalez 1985): the image whose nearest labelled image is farthest away, in the principal
  components of frozen features.
* Disagreement is the variance of the predictions of an ensemble, ridge regressions on random parts of the labels
  (query by bagging, Abe and Mamitsuka 1998). It multiplies the squared distance.
* Spread divides the pool into levels of predicted quality with as many images each, and takes the next image from a
  level with the fewest labels.

Shapes: N images of the pool, L labelled ones, K picked ones, P components, E models of the ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grmp_core.errors import InputError
from grmp_core.planning.dual_ridge import dual_residual_ridge
from grmp_core.planning.feature_pool import FeaturePool
from grmp_core.planning.settings import DEFAULT_RULE, RULES, Rule
from grmp_core.seeds import generator_of

LEVELS = 5
"""Levels of predicted quality."""
MODELS = 10
"""Models of the ensemble."""
PART = 0.7
"""Share of the labels that a model of the ensemble is fitted on."""
MIN_LABELS = 10
"""Before so many labels predictions are the score without a label, and nothing disagrees."""


@dataclass(frozen=True)
class Labelled:
    """Rows of the pool that have labels, and these, on any scale. InputError for a row twice, or a label not finite."""

    rows_L: np.ndarray
    labels_L: np.ndarray

    def __post_init__(self) -> None:
        if self.rows_L.shape != self.labels_L.shape or len(np.unique(self.rows_L)) != len(self.rows_L):
            raise InputError("every labelled image needs one label")
        if not np.isfinite(self.labels_L).all():
            raise InputError("a label is not finite")


def select_next(
    pool: FeaturePool,
    labelled: Labelled,
    count: int,
    *,
    rule: Rule = DEFAULT_RULE,
    seed: int = 0,
    excluded: Sequence[int] = (),
) -> np.ndarray:
    """-> (K,) rows to label next, best first: `count` of them, or as many as are left.

    excluded: rows that cannot be labelled. The same arguments give the same rows. InputError for an unknown rule.
    """
    if rule not in RULES:
        raise InputError(f"rule '{rule}' is unknown; use one of {', '.join(RULES)}")
    rng = generator_of("next", seed, len(labelled.rows_L))
    is_free_N = np.ones(len(pool), dtype=bool)
    is_free_N[labelled.rows_L] = False
    is_free_N[list(excluded)] = False
    count = min(count, int(is_free_N.sum()))
    if rule == "random":
        return rng.permutation(np.flatnonzero(is_free_N))[:count]
    predicted_EN = _predictions(pool, labelled, rng)
    worth_N = np.ones(len(pool))
    if rule in ("disagreement", "combined") and len(predicted_EN) > 1:
        worth_N = predicted_EN[1:].var(axis=0)
    level_N = np.zeros(len(pool), dtype=int)
    if rule in ("spread", "combined"):
        level_N = _levels(predicted_EN[0])
    labels_S = np.bincount(level_N[labelled.rows_L], minlength=LEVELS)
    distances = _Distances(pool.points, labelled.rows_L)
    picked = []
    for _ in range(count):
        free_S = np.bincount(level_N[is_free_N], minlength=LEVELS)
        fewest_S = np.flatnonzero((free_S > 0) & (labels_S == labels_S[free_S > 0].min()))
        level = rng.choice(fewest_S)
        score_N = rng.random(len(pool)) if rule == "spread" else distances.squared * worth_N
        row = int(np.argmax(np.where(is_free_N & (level_N == level), score_N, -np.inf)))
        picked.append(row)
        is_free_N[row] = False
        labels_S[level] += 1
        distances.add(row)
    return np.array(picked, dtype=int)


def _predictions(pool: FeaturePool, labelled: Labelled, rng: np.random.Generator) -> np.ndarray:
    """(1 + E, N): the prediction by all labels, then those of the ensemble; with few labels the base alone."""
    count = len(labelled.rows_L)
    if count < MIN_LABELS:
        return pool.base_N[None]
    products_NL = pool.products(labelled.rows_L).astype(np.float64)
    gram_LL, base_L = products_NL[labelled.rows_L], pool.base_N[labelled.rows_L]
    parts = [np.arange(count)]
    parts += [rng.choice(count, size=round(PART * count), replace=False) for _ in range(MODELS)]
    return np.stack(
        [
            dual_residual_ridge(
                gram_LL[np.ix_(part, part)], base_L[part], labelled.labels_L[part], products_NL[:, part], pool.base_N
            )
            for part in parts
        ]
    )


def _levels(predicted_N: np.ndarray) -> np.ndarray:
    """(N,) level of predicted quality, from 0, as many images in each."""
    ranks_N = np.empty(len(predicted_N), dtype=int)
    ranks_N[np.argsort(predicted_N, kind="stable")] = np.arange(len(predicted_N))
    return ranks_N * LEVELS // len(predicted_N)


class _Distances:
    """Squared distance of every image from its nearest labelled or picked one.

    Without any, it is the closeness to the middle: the first image is a typical one.
    """

    def __init__(self, points_NP: np.ndarray, rows_L: np.ndarray) -> None:
        self._points_NP = points_NP
        self._nearest_N = np.full(len(points_NP), np.inf)
        for row in rows_L:
            self.add(int(row))

    @property
    def squared(self) -> np.ndarray:
        if np.isinf(self._nearest_N[0]):
            return 1 / (1 + self._from(self._points_NP.mean(axis=0)))
        return self._nearest_N

    def add(self, row: int) -> None:
        self._nearest_N = np.minimum(self._nearest_N, self._from(self._points_NP[row]))

    def _from(self, point_P: np.ndarray) -> np.ndarray:
        return ((self._points_NP - point_P) ** 2).sum(axis=1, dtype=np.float64)

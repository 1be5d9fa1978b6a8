"""The protocol of a comparison: which images are tested, and which of the others are labelled.

Shapes: N images of a labelled set.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from grmp_core.errors import InputError
from grmp_core.evaluation import splits
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.evaluation.splits import Split
from grmp_core.settings import PathText, Settings

SCORE_BINS = 5
"""Equal shares of the images by quality, whose counts a control draw keeps."""
EXCHANGES = 50
"""Attempts a label to exchange score bins in a control draw."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig(Settings):
    """Test parts and draws of labels."""

    folds: Annotated[int, Ge(0)] = 0
    """0: every split seed draws a test part of its own (sweep.test_fraction), as published. 2 or more: the references
    are divided once into so many folds; split seed s tests on fold s mod folds, and draws its labels from the rest."""
    bias: Annotated[float, Ge(0), Le(1)] = 0.0
    """How strongly quality goes with the scene among the labelled images. Half of the scenes, drawn, are the good ones;
    an image that goes against that (a poor one of a good scene, a good one of another) is 1 - bias as likely to be
    drawn as others. The test part stays as it is."""
    control: bool = False
    """Draw as many labels of every scene, and of every fifth of the scores, as the biased draw has, but without its
    association between the two."""
    scenes: PathText | None = None
    """Table (CSV, Parquet, …) with the columns image and scene, one row for each image of the target by its file name;
    null: no scenes. Needed by `bias`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            raise InputError("protocol.folds 1: use 0 (a test part for each split seed) or at least 2")
        if self.bias and self.scenes is None:
            raise InputError("protocol.bias needs protocol.scenes: give a table with the columns image and scene")
        if self.control and not self.bias:
            raise InputError("protocol.control is the control of a biased draw: set protocol.bias above 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class Protocol:
    """Splits and label draws of one labelled set. Everything follows the seeds alone."""

    splits: SplitTable
    quality_N: np.ndarray
    """In [0, 1]; only a biased draw looks at it."""
    scenes: tuple[str, ...] | None = None
    """(N,), null where none are needed."""
    config: ProtocolConfig = ProtocolConfig()

    def parts(self, seed: int) -> Split:
        """Training and test part of a split seed. InputError as of `SplitTable.split`, for folds of given ones, and for
        more folds than references."""
        if not self.config.folds:
            return self.splits.split(seed)
        if self.splits.given:
            raise InputError("protocol.folds divides the references anew: set sweep.splits to reference")
        rows, ids = np.arange(len(self.quality_N)), self.splits.reference_ids
        if (count := len(set(ids))) < self.config.folds:
            raise InputError(f"protocol.folds {self.config.folds} is more than the {count} references; lower it")
        train, test = splits.validation_folds(rows, ids, seed=0, folds=self.config.folds)[seed % self.config.folds]
        return Split(train, test, seed)

    def take(self, rows: Sequence[int]) -> Protocol:
        """The same protocol of some of the rows, in that order."""
        scenes = None if self.scenes is None else tuple(self.scenes[row] for row in rows)
        return replace(self, splits=self.splits.take(rows), quality_N=self.quality_N[list(rows)], scenes=scenes)

    def labelled(self, parts: Split, shots: int) -> np.ndarray:
        """Rows to be labelled, sorted, (shots,) int64.

        InputError as of `splits.draw_shots`, or where a bias of 1 leaves too few images to draw from.
        """
        if not self.config.bias or self.scenes is None:
            return splits.draw_shots(parts, shots, parts.seed)
        scenes = np.asarray(self.scenes)[parts.train]
        rank = np.argsort(np.argsort(self.quality_N[parts.train], kind="stable"), kind="stable")
        is_good = rank >= len(rank) / 2
        agrees = is_good == np.isin(scenes, good_scenes(self.scenes, parts.seed))
        weights = np.where(agrees, 1.0, 1.0 - self.config.bias)
        biased = _weighted_draw(weights, shots, parts.seed)
        if not self.config.control:
            return np.sort(parts.train[biased])
        bins = rank * SCORE_BINS // len(rank)
        return np.sort(parts.train[_control_draw(biased, scenes, bins, parts.seed)])


def good_scenes(scenes: Sequence[str], seed: int) -> list[str]:
    """The scenes that a biased draw of this seed shows at their best: drawn until they hold half of the images."""
    counts = Counter(scenes)
    rng = np.random.default_rng([seed, 1])
    chosen: list[str] = []
    for scene in rng.permutation(sorted(counts)):
        if sum(counts[name] for name in chosen) + counts[scene] / 2 <= len(scenes) / 2:
            chosen.append(str(scene))
    return chosen


def association(scenes: Sequence[str], quality_N: np.ndarray) -> float:
    """Correlation ratio (eta squared) of quality with the scene, in [0, 1]: its share of variance between scenes."""
    names, values = np.asarray(scenes), np.asarray(quality_N, dtype=np.float64)
    total = float(((values - values.mean()) ** 2).sum())
    between = sum(
        (names == name).sum() * (values[names == name].mean() - values.mean()) ** 2 for name in np.unique(names)
    )
    return float(between) / total if total > 0 else 0.0


def _weighted_draw(weights_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` places without replacement, likelier by weight (Efraimidis and Spirakis 2006); fewer are part of more."""
    if not 1 <= count <= int((weights_N > 0).sum()):
        raise InputError(
            f"shots: {count} asked for, but protocol.bias leaves {int((weights_N > 0).sum())} images to draw from"
        )
    uniform = np.random.default_rng([seed, 2]).random(len(weights_N))
    with np.errstate(divide="ignore"):
        keys = np.log(uniform) / weights_N
    return np.argsort(-keys, kind="stable")[:count]


def _control_draw(biased: np.ndarray, scenes: np.ndarray, bins: np.ndarray, seed: int) -> np.ndarray:
    """Places with the scene counts and bin counts of `biased`, and no association between the two but by chance.

    Pairs of labels exchange their bins at random wherever images of both new pairs of scene and bin are left; the
    counts stay.
    """
    rng = np.random.default_rng([seed, 3])
    there = Counter(zip(scenes.tolist(), bins.tolist(), strict=True))
    labels = [(str(scenes[place]), int(bins[place])) for place in biased]
    used = Counter(labels)
    for _ in range(EXCHANGES * len(labels)):
        i, j = (int(place) for place in rng.integers(len(labels), size=2))
        (scene_i, bin_i), (scene_j, bin_j) = labels[i], labels[j]
        if scene_i == scene_j or bin_i == bin_j:
            continue
        after = [(scene_i, bin_j), (scene_j, bin_i)]
        if all(used[pair] < there[pair] for pair in after):
            used.subtract([labels[i], labels[j]])
            used.update(after)
            labels[i], labels[j] = after
    drawn = []
    for (scene, score_bin), count in sorted(Counter(labels).items()):
        pool = np.flatnonzero((scenes == scene) & (bins == score_bin))
        drawn.append(rng.permutation(pool)[:count])
    return np.concatenate(drawn)


def scenes_digest(scenes: Sequence[str] | None) -> str | None:
    """sha256 (hex) of the scenes in their order, null without any."""
    return None if scenes is None else hashlib.sha256("\n".join(scenes).encode()).hexdigest()

"""The plan: which of the encoded images to rate next, and what ten labels more would bring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grmp_core.planning.label_gain import MIN_LABELS, MORE, LabelGain, expected_gain
from grmp_core.planning.selection import Labelled, select_next
from pipelines.configuration.labels import NextConfig
from pipelines.planning.feature_cache import CachedImage, FeatureCache


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """Images to rate next, and the stop rule."""

    paths: tuple[str, ...]
    """As seen from the folder, best first."""
    labelled: int
    """Labelled images among those encoded."""
    gain: LabelGain | None
    is_enough: bool

    def advice(self) -> str:
        """The stop rule in one sentence."""
        if self.gain is None and self.labelled < MIN_LABELS:
            return f"{self.labelled} labels; the gain of more is estimated from {MIN_LABELS} on"
        if self.gain is None:
            return f"{self.labelled} labels; the gain of more cannot be estimated, labels are too much alike"
        gain = self.gain
        word = "enough: " if self.is_enough else ""
        return f"{word}{MORE} labels more: SRCC {gain.gain:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"


def plan_images(
    cache: FeatureCache,
    images: Sequence[CachedImage],
    labels: Mapping[str, float],
    config: NextConfig,
    *,
    seed: int,
    count: int,
    left_out: Collection[str] = (),
) -> ImagePlan:
    """Plan from the usable ones of `images`, one or more; `labels` by path, on any scale; `left_out`: paths that are
    not to be rated."""
    pool = cache.pool(images)
    rows_L = np.array([row for row, image in enumerate(images) if image.path in labels], dtype=int)
    labels_L = np.array([labels[images[row].path] for row in rows_L], dtype=float)
    excluded = [row for row, image in enumerate(images) if image.path in left_out]
    rows_K = select_next(pool, Labelled(rows_L, labels_L), count, rule=config.rule, seed=seed, excluded=excluded)
    gain = expected_gain(pool.gram(rows_L), pool.base_N[rows_L], labels_L, seed=seed) if len(rows_L) else None
    return ImagePlan(
        paths=tuple(images[row].path for row in rows_K),
        labelled=len(rows_L),
        gain=gain,
        is_enough=gain is not None and gain.is_enough(config.enough_gain),
    )

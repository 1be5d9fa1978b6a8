"""Shortcuts: what a model could tell scores by without a look at the picture.

A set whose bad photos are all small, or all PNG, teaches a model the size or the kind of file. N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GroupKFold

HINT_SRCC = 0.3
"""From this |SRCC| on, a property is called a hint at a shortcut."""
_FOLDS = 5
_FEWEST = 50
"""With fewer images, an SRCC says little."""


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """How well one property of the files ranks the scores."""

    name: str
    srcc: float
    """Of quality and property; nan where the property is the same everywhere."""
    p_value: float
    """Two-sided, without correction for the number of properties; nan with fewer than 50 images."""

    @property
    def is_hint(self) -> bool:
        return abs(self.srcc) >= HINT_SRCC and self.p_value < 0.01


def properties_of(width_N: np.ndarray, height_N: np.ndarray, bytes_N: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> (N,) float64: what the file's header tells."""
    pixels = np.asarray(width_N, np.float64) * height_N
    return {
        "megapixels": pixels / 1e6,
        "width / height": np.asarray(width_N, np.float64) / height_N,
        "file size": np.asarray(bytes_N, np.float64),
        "bytes a pixel": bytes_N / pixels,
        "place in the table": np.arange(len(pixels), dtype=np.float64),
    }


def shortcuts(quality_N: np.ndarray, properties: dict[str, np.ndarray]) -> list[Shortcut]:
    """SRCC of the quality with every property, in their order."""
    found = []
    for name, values in properties.items():
        if len(np.unique(values)) < 2:
            found.append(Shortcut(name=name, srcc=float("nan"), p_value=float("nan")))
            continue
        result = spearmanr(values, quality_N)
        p_value = float(result.pvalue) if len(values) >= _FEWEST else float("nan")
        found.append(Shortcut(name=name, srcc=float(result.statistic), p_value=p_value))
    return found


def share_explained(quality_N: np.ndarray, kinds_N: Sequence[str]) -> float:
    """Share of the variance of quality that is between kinds (eta squared), in [0, 1]."""
    frame = pd.DataFrame({"quality": quality_N, "kind": list(kinds_N)})
    total = float(((frame["quality"] - frame["quality"].mean()) ** 2).sum())
    means = frame.groupby("kind")["quality"].transform("mean")
    return float(((means - frame["quality"].mean()) ** 2).sum()) / total if total > 0 else 0.0


def srcc_without_pixels(
    quality_N: np.ndarray, properties: dict[str, np.ndarray], kinds_N: Sequence[str], reference_ids: Sequence[str]
) -> float | None:
    """SRCC of a random forest that sees only size, shape and kind of the file; of images of held-out references.

    The size of a file in bytes is left out: it tells how much detail a compressed photo has, which is no shortcut. Null
    with fewer than 50 images or 5 references, or where all files are alike.
    """
    columns = [properties["megapixels"], properties["width / height"]]
    columns += [np.array([kind == one for kind in kinds_N], np.float64) for one in sorted(set(kinds_N))[1:]]
    features = np.stack(columns, axis=1)
    if len(quality_N) < _FEWEST or len(set(reference_ids)) < _FOLDS or not features.std(axis=0).any():
        return None
    predicted = np.zeros(len(quality_N))
    for train, test in GroupKFold(_FOLDS).split(features, groups=list(reference_ids)):
        forest = RandomForestRegressor(100, min_samples_leaf=5, random_state=0, n_jobs=1)
        predicted[test] = forest.fit(features[train], quality_N[train]).predict(features[test])
    return float(spearmanr(predicted, quality_N).statistic)

"""Labels of synthesized pictures: what people said of the same damage at the same level.

`assets/kadid10k_mean_dmos.csv` holds KADID-10k's mean score (1..5, 5 best) of each type and level, over 81 references
with 30 ratings each. A label looked up there ranks KADID-10k's own images at SRCC .938; the level alone is no label,
since some types are not monotone.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import cache
from importlib import resources

from grmp_core.distortions import REGISTRY, get
from grmp_core.errors import InputError

PRISTINE_QUALITY = (4.61 - 1) / 4
"""Quality of an undistorted picture: the mean score of the near-identity cells, not the end of the scale."""


def quality_of(name: str, severity: float) -> float:
    """Mean human quality in [0, 1] of distortion `name` at `severity` in [1, 5], linear between levels.

    InputError for an unknown name or a severity outside the range.
    """
    if not 1 <= severity <= 5:
        raise InputError(f"severity {severity} of {name} is outside 1..5; use a number in that range")
    means = _means()[get(name).name]
    lower = min(int(severity), 4)
    share = severity - lower
    mean = (1 - share) * means[lower - 1] + share * means[lower]
    return (mean - 1) / 4


def quality_of_composition(parts: Sequence[tuple[str, float]]) -> float:
    """Quality of several distortions on top of each other, in [0, 1].

    Each one multiplies what is left: pristine quality times the product of each part's quality relative to it. No part
    can make a picture better than another leaves it, and one ruined part ruins the picture. Published data has single
    distortions only, so this is an assumption.
    """
    factors = [min(1.0, quality_of(name, severity) / PRISTINE_QUALITY) for name, severity in parts]
    return PRISTINE_QUALITY * math.prod(factors)


@cache
def _means() -> dict[str, tuple[float, ...]]:
    by_id: dict[int, dict[int, float]] = {}
    with (resources.files("grmp_core") / "assets" / "kadid10k_mean_dmos.csv").open() as file:
        for row in csv.DictReader(file):
            by_id.setdefault(int(row["type_id"]), {})[int(row["level"])] = float(row["mean"])
    return {
        name: tuple(by_id[distortion.kadid_id][level] for level in range(1, 6))
        for name, distortion in REGISTRY.items()
        if distortion.kadid_id is not None
    }

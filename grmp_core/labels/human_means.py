"""Labels of synthesized pictures: what people said of the same damage at the same level.

KADID-10k types take its mean score of the type and level (1..5, 5 best; 81 references with 30 ratings each, in
`assets/kadid10k_mean_dmos.csv`). Looked up that way, a label ranks KADID-10k's own images at SRCC .938; the level alone
is no label, since some types are not monotone.

Types that only TID2013 has take its mean score (0..9, 25 references), brought to KADID-10k's scale by a monotone map.
Its anchors are nine types that both sets share, compared at equal PSNR (`assets/tid_to_kadid_anchors.csv`). TID2013
made its levels for 33, 30, 27, 24 and 21 dB; KADID-10k's PSNR was measured on photos distorted by this package, and its
score interpolated there. The map is piecewise linear, its inner knots least squares over the 35 anchors, its ends set:
0 is KADID-10k's worst, and 6.2 (TID2013's mildest damage) is the mean of KADID-10k's invisible damage. The anchors
scatter around it by .36 of the 1..5 scale (Pearson .88 before any fit): these labels are less certain than the others.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np

from grmp_core.distortions import REGISTRY, get
from grmp_core.errors import InputError

PRISTINE_QUALITY = (4.61 - 1) / 4
"""Quality of an undistorted picture: the mean score of the invisible cells, not the end of the scale."""
TID_MOS_KNOTS = (0.0, 2.0, 3.5, 5.0, 6.2)
KADID_DMOS_KNOTS = (1.0, 1.5, 2.36, 3.42, 4.6)


def quality_of(name: str, severity: float) -> float:
    """Mean human quality in [0, 1] of distortion `name` at `severity` in [1, 5], linear between levels.

    InputError for an unknown name or a severity outside the range.
    """
    distortion = get(name)
    if not 1 <= severity <= 5:
        raise InputError(f"severity {severity} of {name} is outside 1..5; use a number in that range")
    return float(np.interp(severity, range(1, 6), _qualities()[distortion.name]))


def mildest_level(name: str) -> int:
    """The level, 1 to 5, at which people saw the least of distortion `name`; not the first one of every type."""
    return int(np.argmax(_qualities()[get(name).name])) + 1


def quality_of_composition(parts: Sequence[tuple[str, float]]) -> float:
    """Quality in [0, 1] of several distortions (name, severity) on top of each other; none gives PRISTINE_QUALITY.

    Each part does damage d = pristine / quality - 1 (0: invisible; a part rated above pristine counts as 0). Damages
    add like independent errors, D = sqrt(sum of d²), and the quality is pristine / (1 + D). So the worst part rules,
    the order does not matter, and no part makes a picture better than the others leave it.

    The published sets rate single distortions only, so the rule was chosen by a measure instead of by raters: over 160
    random compositions of 13 types on photos, with a quality that follows from multi-scale structural similarity, it
    predicts the composition from its parts with an error of .039 (SRCC .92). The lowest part alone errs by .049 (.91),
    the product of the parts by .112 (.82), the sum of the losses by .190 (.64).
    """
    return combined_quality([quality_of(name, severity) for name, severity in parts])


def combined_quality(qualities: Sequence[float]) -> float:
    """The rule of `quality_of_composition`: the qualities in [0, 1] that each part alone would leave -> that of all
    together, in [0, PRISTINE_QUALITY]."""
    if min(qualities, default=1.0) <= 0:
        return 0.0
    damages = [PRISTINE_QUALITY / min(PRISTINE_QUALITY, quality) - 1 for quality in qualities]
    return PRISTINE_QUALITY / (1 + math.hypot(*damages))


def quality_of_tid_mos(mos: float) -> float:
    """A TID2013 mean score (0..9) on this package's quality scale; clipped to that of the map's ends."""
    return (float(np.interp(mos, TID_MOS_KNOTS, KADID_DMOS_KNOTS)) - 1) / 4


@cache
def _qualities() -> dict[str, tuple[float, ...]]:
    """Quality at levels 1..5 of every registered distortion."""
    kadid, tid = _table("kadid10k_mean_dmos.csv", "mean"), _table("tid2013_mean_mos.csv", "mean")
    result = {}
    for name, distortion in REGISTRY.items():
        if distortion.kadid_id is not None:
            result[name] = tuple((mean - 1) / 4 for mean in kadid[distortion.kadid_id])
        elif distortion.tid_id is not None:
            result[name] = tuple(quality_of_tid_mos(mean) for mean in tid[distortion.tid_id])
    return result


@cache
def spreads() -> dict[str, tuple[float, ...]]:
    """Standard deviation over references of the human quality at levels 1..5 of every registered distortion, on [0, 1].

    TID2013's scale is shrunk as a whole for it: its monotone map holds for means only.
    """
    kadid, tid = _table("kadid10k_mean_dmos.csv", "std"), _table("tid2013_mean_mos.csv", "std")
    of_tid = {name: tuple(std / 9 for std in tid[d.tid_id]) for name, d in REGISTRY.items() if d.tid_id is not None}
    return of_tid | {name: tuple(s / 4 for s in kadid[d.kadid_id]) for name, d in REGISTRY.items() if d.kadid_id}


def _table(file_name: str, column: str) -> dict[int, list[float]]:
    """Type id -> a column's values at levels 1..5."""
    values: dict[int, list[float]] = {}
    with (resources.files("grmp_core") / "assets" / file_name).open() as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["level"])):
            values.setdefault(int(row["type_id"]), []).append(float(row[column]))
    return values

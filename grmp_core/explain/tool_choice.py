"""Which number to trust for which kind of damage.

The rule: what the image most probably suffers from decides the family of damage. With a reference, the measure against
it is trusted that agrees best with people for this family; the model, where none agrees better than it does. Without
one it is the model, for the embedded backbone agrees with people better than every estimator in every family. The
family's estimator is named beside it as a witness: does the picture measure as if it had this damage?

`tests/benchmarks/explain_tools.py` compares all of them with mean human scores (docs/explain.md has the table).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from grmp_core.explain.measurements import Measurements

RANGES = Path(str(resources.files("grmp_core"))) / "assets" / "clean_photo_ranges.json"
PROBABLE = 0.5
"""Probability of a family from which on its estimator is asked."""
DIGITS = 3
"""Of the numbers that are told."""
OUTSIDE = 0.95
"""Share of clean photos beyond which a measurement is unusual."""


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """One of `Measurements`, and in which direction it tells of damage."""

    name: str
    words: str
    unusual: Literal["high", "low", "both"]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Estimator and reference measure of one family of damage."""

    estimator: Estimator | None
    reference: str | None
    """One of `ReferenceMeasures`; null where the model agrees better with people than all of them."""


TOOLS: dict[str, Tools] = {
    "blur": Tools(estimator=Estimator(name="blur", words="blur effect", unusual="high"), reference="gmsd"),
    "noise": Tools(estimator=Estimator(name="noise_sigma", words="noise sigma", unusual="high"), reference="psnr_db"),
    "compression": Tools(
        estimator=Estimator(name="blocking", words="blocking ratio", unusual="high"), reference="gmsd"
    ),
    "brightness": Tools(
        estimator=Estimator(name="mean_luma", words="mean grey level", unusual="both"), reference="colour_difference"
    ),
    "colour": Tools(
        estimator=Estimator(name="colour_cast", words="colour cast", unusual="high"), reference="colour_difference"
    ),
    "sharpness_contrast": Tools(
        estimator=Estimator(name="contrast", words="contrast", unusual="both"), reference="gmsd"
    ),
    "spatial": Tools(estimator=None, reference=None),
}


@dataclass(frozen=True, kw_only=True)
class CleanRanges:
    """Measurements of clean photos."""

    photos: int
    percentiles: dict[str, list[float]]
    """Name of a measurement -> its 101 percentiles, from the 0th to the 100th."""

    def share_below(self, name: str, value: float) -> float:
        """Share in [0, 1] of clean photos whose measurement is lower; NaN for NaN."""
        table = np.array(self.percentiles[name])
        lower, upper = np.searchsorted(table, value, "left"), np.searchsorted(table, value, "right")
        if upper > lower:  # as high as some clean photos
            return float((lower + upper - 1) / 2 / 100)
        return float(np.nan if np.isnan(value) else np.interp(value, table, np.linspace(0, 1, 101)))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The tool that is trusted for one image, and the estimator of its damage."""

    kind: Literal["reference", "model"]
    name: str
    """One of `ReferenceMeasures`; `quality`."""
    why: str
    estimator: Estimator | None
    """Of the probable family; null where no family is probable, or it has none."""
    confirms: bool | None
    """Whether the estimator is outside of what clean photos have; null without one, or where it has no value."""


def is_unusual(estimator: Estimator, share_below: float) -> bool:
    """Whether a measurement lies where less than 1 - OUTSIDE of the clean photos lie, by the share as it is told. False
    for NaN."""
    share_below = round(share_below, DIGITS)
    edge = OUTSIDE if estimator.unusual != "both" else (1 + OUTSIDE) / 2
    is_high = share_below > edge and estimator.unusual != "low"
    return bool(is_high or (share_below < 1 - edge and estimator.unusual != "high"))


def choose_tool(
    groups: dict[str, float], measured: Measurements, ranges: CleanRanges, *, has_reference: bool
) -> Choice:
    """groups: probability of every family of damage and of `undamaged`."""
    damage = {name: probability for name, probability in groups.items() if name in TOOLS}
    family = max(damage, key=lambda name: damage[name])
    tools, words = TOOLS[family], family.replace("_", " and ")
    estimator = tools.estimator if damage[family] >= PROBABLE else None
    value = getattr(measured, estimator.name) if estimator else np.nan
    confirms = None
    if estimator is not None and not np.isnan(value):
        confirms = is_unusual(estimator, ranges.share_below(estimator.name, value))
    if has_reference and tools.reference is not None:
        why = f"a reference is given, {words} is likeliest, and for it this measure agrees best with people"
        return Choice(kind="reference", name=tools.reference, why=why, estimator=estimator, confirms=confirms)
    why = "with the embedded backbone it agrees with people better than any measurement of the picture alone"
    if has_reference:
        why = f"{words} is likeliest, and for it the embedded backbone agrees better with people than such measures"
    return Choice(kind="model", name="quality", why=why, estimator=estimator, confirms=confirms)


def read_ranges(path: Path = RANGES) -> CleanRanges:
    return CleanRanges(**json.loads(path.read_text()))

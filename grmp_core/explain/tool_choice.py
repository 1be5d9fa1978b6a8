"""Which number to trust for which kind of damage.

The rule: what the image most probably suffers from decides the family; the family has one estimator, which measures it
directly, and one measure against a reference (`tests/benchmarks/explain_tools.py` compares all of them with mean human
scores). A reference, where there is one, is trusted before everything else. Without one the estimator of the family is
trusted where the type is probable and the estimator is outside of what clean photos have; in all other cases the model.
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
"""Probability of a family from which on its estimator may be trusted."""
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
    reference: str
    """One of `ReferenceMeasures`."""


BLUR = Estimator(name="blur", words="blur effect", unusual="high")
TOOLS: dict[str, Tools] = {
    "blur": Tools(estimator=BLUR, reference="gmsd"),
    "noise": Tools(estimator=Estimator(name="noise_sigma", words="noise sigma", unusual="high"), reference="psnr_db"),
    "compression": Tools(
        estimator=Estimator(name="blocking", words="blocking ratio", unusual="high"), reference="gmsd"
    ),
    "brightness": Tools(
        estimator=Estimator(name="mean_luma", words="mean grey level", unusual="both"), reference="ssim"
    ),
    "colour": Tools(
        estimator=Estimator(name="colour_cast", words="colour cast", unusual="high"), reference="colour_difference"
    ),
    "sharpness_contrast": Tools(
        estimator=Estimator(name="contrast", words="contrast", unusual="both"), reference="gmsd"
    ),
    "spatial": Tools(estimator=None, reference="ssim"),
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
    """The tool that is trusted for one image."""

    kind: Literal["reference", "estimator", "model"]
    name: str
    """One of `ReferenceMeasures` or `Measurements`; `quality`."""
    why: str


def is_unusual(estimator: Estimator, share_below: float) -> bool:
    """Whether a measurement lies where less than 1 - OUTSIDE of the clean photos lie. False for NaN."""
    edge = OUTSIDE if estimator.unusual != "both" else (1 + OUTSIDE) / 2
    is_high = share_below > edge and estimator.unusual != "low"
    return bool(is_high or (share_below < 1 - edge and estimator.unusual != "high"))


def choose_tool(
    groups: dict[str, float], measured: Measurements, ranges: CleanRanges, *, has_reference: bool
) -> Choice:
    """groups: probability of every family of damage and of `undamaged`."""
    damage = {name: probability for name, probability in groups.items() if name in TOOLS}
    family = max(damage, key=lambda name: damage[name])
    tools = TOOLS[family]
    words = family.replace("_", " and ")
    if has_reference:
        return Choice(kind="reference", name=tools.reference, why=f"a reference is given, and {words} is likeliest")
    if damage[family] < PROBABLE:
        return Choice(kind="model", name="quality", why="no single family of damage is probable")
    if tools.estimator is None:
        return Choice(kind="model", name="quality", why=f"there is no estimator for {words} damage")
    share = ranges.share_below(tools.estimator.name, getattr(measured, tools.estimator.name))
    if not is_unusual(tools.estimator, share):
        return Choice(kind="model", name="quality", why=f"the {tools.estimator.words} is as in clean photos")
    return Choice(
        kind="estimator",
        name=tools.estimator.name,
        why=f"{words} is probable, and the {tools.estimator.words} confirms it",
    )


def read_ranges(path: Path = RANGES) -> CleanRanges:
    return CleanRanges(**json.loads(path.read_text()))

"""Configuration sections of an explanation. They are apart from the code, so that reading them imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from grmp_core.settings import Settings


@dataclass(frozen=True, kw_only=True)
class MapConfig(Settings):
    """Crops of a quality map."""

    overlap: Annotated[float, Ge(0), Le(0.9)] = 0.5
    """Share of a crop's side that the next one covers again, at least."""
    crops_a_side: Annotated[int, Ge(1)] = 10
    """Crops along the longer side, at most. In larger photos they overlap less, and in very large ones they leave gaps,
    over which the map interpolates."""
    spread: Annotated[float, Gt(0)] = 0.25
    """Standard deviation of the Gaussian weight of a crop, as a share of its side."""
    disagreement: Annotated[float, Gt(0)] = 0.1
    """Where the quality of neighbouring crops has a standard deviation of more than this, finer crops look again."""
    second_looks: Annotated[int, Ge(0)] = 4
    """Crops that are looked at again, at most, those first whose neighbours disagree the most; 0: none."""


@dataclass(frozen=True, kw_only=True)
class ReasonConfig(Settings):
    """Reasons beside the map."""

    types: Annotated[int, Ge(1)] = 3
    """Types of damage that are named, the most probable ones."""
    undo_above: Annotated[float, Ge(0), Le(1)] = 0.15
    """Families of damage from this probability on are undone for an estimate of what they cost."""

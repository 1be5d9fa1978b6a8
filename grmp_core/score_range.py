"""The scale of a data set's own scores, and the way from a score to quality and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from grmp_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ScoreRange:
    """The scale of a source's scores, and the way between it and quality."""

    mos_min: float
    """Smallest score of the scale."""
    mos_max: float
    """Largest score of the scale."""
    higher_is_better: bool = True
    """False for difference scores (DMOS), where a large score is a bad image."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mos_min) and math.isfinite(self.mos_max) and self.mos_min < self.mos_max):
            raise InputError(f"score range: {self.mos_min} to {self.mos_max} must be finite and rising")

    def to_quality(self, mos: float | np.ndarray) -> float | np.ndarray:
        """Scores of the scale to quality; mos_min..mos_max becomes [0, 1], 1 best."""
        rising = (mos - self.mos_min) / (self.mos_max - self.mos_min)
        return rising if self.higher_is_better else 1.0 - rising

    def to_mos(self, quality: float | np.ndarray) -> float | np.ndarray:
        """Quality in [0, 1] to scores of the scale; the inverse of `to_quality`."""
        rising = quality if self.higher_is_better else 1.0 - quality
        return self.mos_min + rising * (self.mos_max - self.mos_min)

"""The table of distortions: named kinds of damage, each with five published levels and everything between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grmp_core.errors import InputError

Apply = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(uint8 RGB image (H, W, 3), parameter, generator) -> uint8 RGB of the same shape; the input is left alone."""


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """One type of damage. Calling it applies it at a continuous severity."""

    name: str
    group: str
    """blur | colour | compression | noise | brightness | spatial | sharpness_contrast (KADID-10k's families)."""
    kadid_id: int | None
    tid_id: int | None
    levels: tuple[float, float, float, float, float]
    """The parameter at levels 1..5."""
    description: str
    """Its effect on the picture, in one line."""
    apply: Apply
    geometric: bool = False
    """Interpolate the parameter in its logarithm: for parameters that grow by factors."""

    def parameter(self, severity: float) -> float:
        """The parameter at `severity` in [1, 5]: exact at whole levels, continuous and piecewise between them.

        Raises InputError for a severity outside [1, 5].
        """
        if not 1 <= severity <= 5:
            raise InputError(f"severity {severity} of {self.name} is outside 1..5; use a number in that range")
        lower = min(int(severity), 4)
        share = severity - lower
        a, b = self.levels[lower - 1], self.levels[lower]
        if share in (0.0, 1.0):
            return b if share else a
        if self.geometric:
            return math.exp((1 - share) * math.log(a) + share * math.log(b))
        return (1 - share) * a + share * b

    def __call__(self, image_HW3: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        """Distort a uint8 RGB image (H, W, 3); -> a new one of the same shape. All randomness comes from `rng`."""
        if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3:
            raise InputError(
                f"{self.name} wants uint8 RGB (H, W, 3), got {image_HW3.dtype} {image_HW3.shape}; convert it first"
            )
        if image_HW3.size == 0:
            raise InputError(f"{self.name} got an empty image {image_HW3.shape}; drop it before")
        return self.apply(np.ascontiguousarray(image_HW3), self.parameter(severity), rng)

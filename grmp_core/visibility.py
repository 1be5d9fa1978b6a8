"""Labels by picture: the same damage shows on one picture and hides on another.

KADID-10k publishes mean and spread of its scores for each type and level (a cell). The mean is the label of a cell;
this module moves the label of one picture away from it, by what a full-reference measure sees there:

    label = mean + STRENGTH * (curve(difference) - expected)

`difference` is the mean CIELAB distance between reference and result after averaging 8 x 8 pixels, so that what eyes
blend is blended first. `curve` is a type's human quality as a monotone function of that difference, fitted to its five
levels; `expected` is the curve's mean over many photos, so that a cell keeps its mean. Both are in
`assets/visibility.csv`, made by `python -m grmp_core.visibility_fit PHOTOS`.

How far to trust it: no score of a single picture was at hand, so STRENGTH comes from spreads. Over the 125 cells the
variance of human scores rises with that of the curve (Spearman .59; .56 on the 55 cells of TID2013's own types, which
took no part in the fit). STRENGTH² is the slope of that relation, with what raters disagree about in the middle of the
scale taken out: .26, bootstrap interval over types .02 to .45. The correction so explains 18 % of the variance within
cells; the rest stays noise of the label. Of five measures this one did best on both sets: SSIM at half resolution, its
multi-scale form and gradient similarity explain 10 to 14 % with intervals that hold 0, PSNR nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import cv2
import numpy as np

from grmp_core.calibration import quality_of

BLEND_PX = 8
"""Side of the squares that are averaged before colours are compared."""
STRENGTH = 0.51
"""Share of the curve's deviation that moves the label; 0 would give every picture of a cell the same label."""


class Appearance:
    """A pristine picture, ready to be compared with what was made of it.

    image_HW3: uint8 RGB.
    """

    def __init__(self, image_HW3: np.ndarray) -> None:
        self._blended = _blended_lab(image_HW3)

    def difference(self, distorted_HW3: np.ndarray) -> float:
        """Mean distance in CIELAB of 8 x 8 averages: 0 for the same picture, about 2 for a just visible step."""
        return float(np.linalg.norm(_blended_lab(distorted_HW3) - self._blended, axis=2).mean())


@dataclass(frozen=True)
class VisibilityCurve:
    """What to expect of one type: by level its difference, human quality along it, and the mean of that quality."""

    differences: tuple[float, ...]
    qualities: tuple[float, ...]
    expected: tuple[float, ...]

    def quality_at(self, difference: float | np.ndarray) -> np.ndarray:
        """Human quality in [0, 1] of the type's damage where it makes `difference`; flat beyond the levels."""
        order = np.argsort(self.differences, kind="stable")
        return np.interp(difference, np.array(self.differences)[order], np.array(self.qualities)[order])


def quality_of_picture(name: str, severity: float, difference: float) -> float:
    """Quality in [0, 1] of a picture with `name` at `severity` in [1, 5] that makes `difference` on it.

    InputError for an unknown name or a severity outside the range.
    """
    mean, curve = quality_of(name, severity), curves()[name]
    expected = float(np.interp(severity, range(1, 6), curve.expected))
    label = mean + STRENGTH * (float(curve.quality_at(difference)) - expected)
    return round(min(1.0, max(0.0, label)), 4)  # digits that every machine agrees on


@cache
def curves() -> Mapping[str, VisibilityCurve]:
    """Type -> its curve, from the package's table."""
    columns: dict[str, list[tuple[float, ...]]] = {}
    with (resources.files("grmp_core") / "assets" / "visibility.csv").open() as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["level"])):
            values = (float(row["difference"]), float(row["quality"]), float(row["expected"]))
            columns.setdefault(row["type_name"], []).append(values)
    return {name: VisibilityCurve(*zip(*rows, strict=True)) for name, rows in columns.items()}


def _blended_lab(image: np.ndarray) -> np.ndarray:
    """Whole squares only, since OpenCV is six times faster on them. The first halving in bytes is another eight times
    faster, and its rounding is lost among the 16 values of the second."""
    height, width = (side - side % BLEND_PX or side for side in image.shape[:2])
    half = cv2.resize(image[:height, :width], _shrunk(height, width, 2), interpolation=cv2.INTER_AREA)
    blended = cv2.resize(half.astype(np.float32), _shrunk(height, width, BLEND_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(blended / 255, cv2.COLOR_RGB2LAB)


def _shrunk(height: int, width: int, factor: int) -> tuple[int, int]:
    """(width, height), as OpenCV wants it."""
    return max(1, width // factor), max(1, height // factor)

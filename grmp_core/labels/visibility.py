"""Labels by picture: the same damage shows on one picture and hides on another.

KADID-10k publishes mean and spread of its scores for each type and level (a cell). The mean is the label of a cell;
this module moves the label of one picture away from it, by what two full-reference measures see there:

    label = mean + STRENGTH * average over both of (curve(difference) - expected)

Colour: the mean CIELAB distance of reference and result after averaging 8 x 8 pixels, so that what eyes blend is
blended first. Structure: the standard deviation of the gradient magnitudes' similarity at half resolution (GMSD, Xue
et al. 2014). `curve` is a type's human quality as a monotone function of a difference, fitted to its five levels;
`expected` is the curve's mean over many photos, so that a cell keeps its mean. Both are in `assets/visibility.csv`,
made by `python -m grmp_core.labels.fit_visibility PHOTOS`.

How far to trust it: no score of a single picture was at hand, so STRENGTH comes from spreads. Over the 125 cells the
variance of human scores rises with that of the curves (Spearman .61; .58 on the 55 cells of TID2013's own types, which
took no part in the fit). STRENGTH² is the slope of that relation, with what raters disagree about in the middle of the
scale taken out: .28, bootstrap interval over types .05 to .55. The correction so explains 17 % of the variance within
cells; the rest stays noise of the label. Colour alone explains as much, but is blind to what JPEG does inside its
blocks; SSIM and its multi-scale form explain 12 to 14 % with intervals that hold 0, PSNR nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import cv2
import numpy as np

from grmp_core.labels.human_means import quality_of

MEASURES = ("colour", "structure")
BLEND_PX = 8
"""Side of the squares that are averaged before colours are compared."""
GRADIENT_FLOOR = 170.0
"""GMSD's constant, for gradients of 8-bit values by the Prewitt filter."""
STRENGTH = 0.53
"""Share of the curves' deviation that moves the label; 0 would give every picture of a cell the same label."""


class Appearance:
    """A pristine picture, ready to be compared with what was made of it.

    image_HW3: uint8 RGB.
    """

    def __init__(self, image_HW3: np.ndarray) -> None:
        self._blended, self._gradient = _blended_lab(image_HW3), _gradient(image_HW3)

    def differences(self, distorted_HW3: np.ndarray) -> tuple[float, float]:
        """(colour, structure), each 0 for the same picture.

        Colour: CIELAB distance, about 2 for a just visible step. Structure: GMSD, about .3 for ruins.
        """
        colour = float(np.linalg.norm(_blended_lab(distorted_HW3) - self._blended, axis=2).mean())
        gradient = _gradient(distorted_HW3)
        similarity = (2 * self._gradient * gradient + GRADIENT_FLOOR) / (
            self._gradient**2 + gradient**2 + GRADIENT_FLOOR
        )
        return colour, float(cv2.meanStdDev(similarity)[1][0, 0])


@dataclass(frozen=True)
class VisibilityCurve:
    """Expectation for one type by one measure: by level its difference, human quality along it, and the mean of that
    quality over photos."""

    differences: tuple[float, ...]
    qualities: tuple[float, ...]
    expected: tuple[float, ...]

    def quality_at(self, difference: float | np.ndarray) -> np.ndarray:
        """Human quality in [0, 1] of the type's damage where it makes `difference`; flat beyond the levels."""
        order = np.argsort(self.differences, kind="stable")
        return np.interp(difference, np.array(self.differences)[order], np.array(self.qualities)[order])

    def deviation(self, severity: float, difference: float) -> float:
        """Quality at `difference` less what is expected at `severity`."""
        return float(self.quality_at(difference)) - float(np.interp(severity, range(1, 6), self.expected))


def quality_of_picture(name: str, severity: float, differences: tuple[float, float]) -> float:
    """Quality in [0, 1] of a picture with `name` at `severity` in [1, 5] that makes these `differences` on it.

    InputError for an unknown name or a severity outside the range.
    """
    mean = quality_of(name, severity)
    deviations = [
        curve.deviation(severity, difference)
        for curve, difference in zip(curves()[name].values(), differences, strict=True)
    ]
    label = mean + STRENGTH * sum(deviations) / len(deviations)
    return round(min(1.0, max(0.0, label)), 4)  # digits that every machine agrees on


@cache
def curves() -> Mapping[str, Mapping[str, VisibilityCurve]]:
    """Type -> measure -> its curve, from the package's table."""
    columns: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    with (resources.files("grmp_core") / "assets" / "visibility.csv").open() as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["level"])):
            values = (float(row["difference"]), float(row["quality"]), float(row["expected"]))
            columns.setdefault(row["type_name"], {}).setdefault(row["measure"], []).append(values)
    return {
        name: {measure: VisibilityCurve(*zip(*rows[measure], strict=True)) for measure in MEASURES}
        for name, rows in columns.items()
    }


def _blended_lab(image: np.ndarray) -> np.ndarray:
    """Whole squares only, since OpenCV is six times faster on them. The first halving in bytes is another eight times
    faster, and its rounding is lost among the 16 values of the second."""
    blended = cv2.resize(_half(image).astype(np.float32), _shrunk(image, BLEND_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(blended / 255, cv2.COLOR_RGB2LAB)


def _gradient(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(_half(image), cv2.COLOR_RGB2GRAY)
    across = cv2.filter2D(grey, cv2.CV_32F, _PREWITT)
    down = cv2.filter2D(grey, cv2.CV_32F, _PREWITT.T)
    return cv2.magnitude(across, down)


_PREWITT = np.array([[1, 0, -1]] * 3, dtype=np.float32) / 3


def _half(image: np.ndarray) -> np.ndarray:
    height, width = (side - side % BLEND_PX or side for side in image.shape[:2])
    return cv2.resize(image[:height, :width], _shrunk(image, 2), interpolation=cv2.INTER_AREA)


def _shrunk(image: np.ndarray, factor: int) -> tuple[int, int]:
    """(width, height) of the image's whole squares in `factor` times fewer pixels."""
    height, width = (side - side % BLEND_PX or side for side in image.shape[:2])
    return max(1, width // factor), max(1, height // factor)

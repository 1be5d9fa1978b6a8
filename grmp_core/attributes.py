"""What pixels alone tell of a photo: fine detail, brightness, colourfulness; and what that is worth.

Photos differ in quality before anybody damages them: one is soft, one dim, one glaring. (SPAQ, Fang et al. 2020, asks
its raters for such attributes beside quality.) `own_quality` makes a label of that, for photos that are taken as
undistorted: what people said of photos that look as soft because they were blurred, or as dim or glaring because they
were darkened or brightened. The curves are the mean score of KADID-10k's cells as a function of the measure, over many
photos at all levels, so that a measure counts as far as it tells damage from how photos differ anyway; they are in
`assets/own_quality.csv`, made by `python -m grmp_core.attributes_fit PHOTOS`.

How far to trust it: an assumption. KADID-10k's raters saw the original beside each picture, and what takes the eye by
comparison only says nothing about a photo by itself. So paleness is an attribute here and no part of own quality: a
photo made grey is rated .3 beside its original, and a photo of a grey wall is no poor photo. All numbers are made of
KADID-10k's; but the rule without paleness was settled with both in view on LIVE In the Wild, where the rule by itself
(mean of 3 x 3 views, no model) has SRCC .54, and .40 with paleness. A picture of something smooth counts as a soft one.
It is no measure of damage: noise is fine detail, too.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import cv2
import numpy as np

from grmp_core.calibration import PRISTINE_QUALITY, combined_quality

ATTRIBUTES = ("detail", "brightness", "colour")
CURVES = {"softness": "detail", "dimness": "brightness", "glare": "brightness"}
"""What lowers a photo's own quality -> the measure that tells."""
BLOCK_PX = 16
"""Side of the squares whose detail is averaged."""
SHARP_PERCENTILE = 95.0
"""Of the squares: the sharpest twentieth of them counts."""
DETAIL_FLOOR = 0.1
"""Added before the logarithm of detail: no picture has none."""
ENDS = np.array([[0.59, 4.34], [40.0, 159.0], [1.10, 4.35]])
"""(poor, rich) end of each measure, printed by `attributes_fit`: the mean of photos under the strongest blur, darkening
and loss of colour; the 95th percentile of undistorted ones."""
_DETAIL_FILTER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def measures(image_HW3: np.ndarray) -> np.ndarray:
    """uint8 RGB, 32 px a side or more -> (3,) float, one a name of `ATTRIBUTES`.

    Detail: log of the mean response to a second difference in both directions (blind to slopes and straight edges), at
    the 95th percentile over squares of 16 px. Brightness: mean luma, 0 to 255. Colour: log of the colourfulness of
    Hasler and Süsstrunk (2003), from log 3.
    """
    grey = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, _DETAIL_FILTER))
    blocks = cv2.resize(response, (grey.shape[1] // BLOCK_PX, grey.shape[0] // BLOCK_PX), interpolation=cv2.INTER_AREA)
    return np.array(
        [
            np.log(np.percentile(blocks, SHARP_PERCENTILE) + DETAIL_FLOOR),
            grey.mean(),
            np.log(_colourfulness(image_HW3) + 3),
        ],
        dtype=np.float64,
    )


def attributes(image_HW3: np.ndarray) -> np.ndarray:
    """The measures of a picture between their `ENDS`: (3,) float in [0,1]; 0 poor, 1 rich."""
    poor, rich = ENDS.T
    return np.clip((measures(image_HW3) - poor) / (rich - poor), 0.0, 1.0)


def own_quality(image_HW3: np.ndarray) -> float:
    """Quality of an undistorted photo: what its softness and its light leave, added up by the rule of compositions.

    In (0, .88]: no brightness is free of both doubts, whether it is dim and whether it is glaring.
    """
    found = dict(zip(ATTRIBUTES, measures(image_HW3), strict=True))
    left = {name: float(np.interp(found[CURVES[name]], *points)) for name, points in curves().items()}
    return combined_quality([left["softness"], min(left["dimness"], left["glare"])])


@cache
def curves() -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Name of `CURVES` -> (measures, rising; the quality at each, flat beyond them)."""
    with (resources.files("grmp_core") / "assets" / "own_quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {name: [row for row in rows if row["curve"] == name] for name in CURVES}
    return {
        name: (tuple(float(row["measure"]) for row in points), tuple(float(row["quality"]) for row in points))
        for name, points in found.items()
    }


def own_quality_rule() -> tuple[object, ...]:
    """All numbers that decide about `own_quality`: labels made with others are other labels."""
    return BLOCK_PX, SHARP_PERCENTILE, DETAIL_FLOOR, _DETAIL_FILTER.tolist(), PRISTINE_QUALITY, *curves().items()


def _colourfulness(image_HW3: np.ndarray) -> float:
    red, green, blue = cv2.split(image_HW3.astype(np.float32))
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    spread, offset = opponents.std(axis=(1, 2)), opponents.mean(axis=(1, 2))
    return float(np.hypot(*spread) + 0.3 * np.hypot(*offset))

"""Quality of an undamaged photo from its pixels alone: fine detail, brightness, colourfulness.

Photos differ in quality before anybody damages them: one is soft, one dim, one pale. (SPAQ, Fang et al. 2020, asks its
raters for such attributes beside quality.) Each is a measure here, placed between the ends that photos reach;
`own_quality` makes a label of them, for photos that are taken as undistorted.

How far to trust it: range and weights are an assumption, chosen while looking at LIVE In the Wild, where the weighted
sum by itself (mean of 3 x 3 views, no model) has SRCC .57. It is no measure of damage: noise is fine detail, too.
"""

from __future__ import annotations

import cv2
import numpy as np

ATTRIBUTES = ("detail", "brightness", "colour")
BLOCK_PX = 16
"""Side of the squares whose detail is averaged; the sharpest twentieth of them counts."""
UNDISTORTED_QUALITY = 0.93
"""Best label of an undistorted photo: above the .90 that raters give KADID-10k cells with nothing to see, below 1."""
OWN_RANGE = 0.6
"""Largest loss of quality by a poor look."""
_ENDS = np.array([[1.0, 4.5], [45.0, 165.0], [2.0, 4.5]])
"""(poor, rich) end of each measure: what few photos fall below and few go beyond."""
_WEIGHTS = np.array([0.6, 0.2, 0.2])
OWN_QUALITY_RULE = (UNDISTORTED_QUALITY, OWN_RANGE, BLOCK_PX, *_ENDS.ravel().tolist(), *_WEIGHTS.tolist())
"""All numbers that decide about `own_quality`: labels made with others are other labels."""
_DETAIL_FILTER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def attributes(image_HW3: np.ndarray) -> np.ndarray:
    """uint8 RGB, 32 px a side or more -> (3,) float in [0,1], one a name of `ATTRIBUTES`; 0 poor, 1 rich.

    Detail: log of the mean response to a second difference in both directions (blind to slopes and straight edges), at
    the 95th percentile over squares of 16 px. Brightness: mean luma. Colour: log of the colourfulness of Hasler and
    Süsstrunk (2003).
    """
    grey = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, _DETAIL_FILTER))
    blocks = cv2.resize(response, (grey.shape[1] // BLOCK_PX, grey.shape[0] // BLOCK_PX), interpolation=cv2.INTER_AREA)
    measures = np.array(
        [np.log(np.percentile(blocks, 95) + 0.1), grey.mean(), np.log(_colourfulness(image_HW3) + 3)], dtype=np.float64
    )
    poor, rich = _ENDS.T
    return np.clip((measures - poor) / (rich - poor), 0.0, 1.0)


def own_quality(attributes_3: np.ndarray) -> float:
    """Attributes (3,) of an undistorted photo -> its quality in [.33, .93], linear in each of them."""
    return UNDISTORTED_QUALITY - OWN_RANGE * (1 - float(_WEIGHTS @ attributes_3))


def _colourfulness(image_HW3: np.ndarray) -> float:
    red, green, blue = cv2.split(image_HW3.astype(np.float32))
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    spread, offset = opponents.std(axis=(1, 2)), opponents.mean(axis=(1, 2))
    return float(np.hypot(*spread) + 0.3 * np.hypot(*offset))

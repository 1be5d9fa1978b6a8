"""Quality and damage by place: overlapping crops at native resolution, whose values are spread over the image.

A map at a point is the mean of the crops' values, weighted by a Gaussian of the distance to their centres
(Nadaraya-Watson). Where the quality of crops that lie close together disagrees, crops of half the side are scored, too.

Shapes: images (H, W, 3) uint8 RGB; C crops, S numbers that damage is told by, V = 1 + S; maps (h, w) on a grid of cells
over the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from grmp_core.explain.settings import MapConfig
from grmp_core.imaging.views import Pixels, at_least, positions

LookAtCrops = Callable[[np.ndarray], np.ndarray]
"""uint8 crops (C, size, size, 3) -> (C, V): quality in [0, 1], and numbers that damage is told by."""
JudgeCrops = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""These numbers (C, S) of all crops of one image, and the crops' centres (C, 2) as shares of its height and width ->
(C,) logarithm of the probability that a place in each is undamaged."""
_AT_ONCE = 32
_FINE = 9
"""Half-size crops of a second look."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A square of the image, in pixels of the image, with its values."""

    top_px: int
    left_px: int
    size_px: int
    quality: float
    undamaged: float
    """Probability in [0, 1] that a place in it is undamaged; of a second look that of the crop it looks into."""
    fine: bool = False
    """Of a second look."""


@dataclass(frozen=True, kw_only=True)
class QualityMap:
    """Quality and damage over one image."""

    crops: tuple[Crop, ...] = field(repr=False)
    quality_hw: np.ndarray = field(repr=False)
    """Quality in [0, 1] at the centres of evenly spread cells, float64."""
    undamaged_hw: np.ndarray = field(repr=False)
    """Probability in [0, 1] that the image is undamaged there."""
    shape_px: tuple[int, int]
    """Height and width of the image."""
    looked_again: int
    """Crops whose neighbours disagree and that finer crops looked at."""

    @property
    def coarse(self) -> tuple[Crop, ...]:
        return tuple(crop for crop in self.crops if not crop.fine)

    @property
    def mean(self) -> float:
        """Of the coarse crops."""
        return float(np.mean([crop.quality for crop in self.coarse]))

    def lowest(self, cells_hw: np.ndarray) -> tuple[int, int]:
        """(row, column) in pixels of the image where one of its maps is lowest.

        Beyond the centres of the outermost crops a map only repeats them: places there become the nearest such centre.
        """
        cell = divmod(int(np.argmin(cells_hw)), cells_hw.shape[1])
        place = [(i + 0.5) * side / count for i, side, count in zip(cell, self.shape_px, cells_hw.shape, strict=True)]
        centres = np.array([(crop.top_px, crop.left_px) for crop in self.coarse]) + self.coarse[0].size_px / 2
        row, column = np.clip(place, centres.min(axis=0), centres.max(axis=0))
        return int(row), int(column)

    @property
    def costliest(self) -> Crop:
        """The coarse crop of the lowest quality: the one without which the mean would be highest."""
        return min(self.coarse, key=lambda crop: crop.quality)

    @property
    def cost(self) -> float:
        """By how much the mean of the coarse crops would be higher without the costliest one; 0 for a single crop."""
        others = [crop.quality for crop in self.coarse if crop is not self.costliest]
        return float(np.mean(others)) - self.mean if others else 0.0


def quality_map(
    image_HW3: Pixels, look: LookAtCrops, judge: JudgeCrops, size_px: int, config: MapConfig | None = None
) -> QualityMap:
    """Map an image by crops of `size_px`. ImageError for a thin strip.

    An image with a shorter side is enlarged before it is cropped, as scoring does. Second looks refine the quality
    only: damage is found by comparing crops of one size with each other.
    """
    config = config or MapConfig()
    height, width = image_HW3.shape[:2]
    canvas: Pixels = image_HW3 if min(height, width) >= size_px else at_least(image_HW3[:, :], size_px)
    corners = crop_corners(canvas.shape[:2], size_px, config)
    seen_CV = _seen(canvas, corners, size_px, look)
    quality_C = seen_CV[:, 0].astype(np.float64)
    undamaged_C = judge(seen_CV[:, 1:], (np.array(corners) + size_px / 2) / canvas.shape[:2]).astype(np.float64)
    disagreement = _disagreement(corners, quality_C, size_px)
    order = np.argsort(-disagreement, kind="stable")[: config.second_looks]
    again = [int(i) for i in order if disagreement[i] > config.disagreement]
    looks = [_second_look(canvas, corners[i], size_px, look, quality_C[i]) for i in again]
    places = [*corners, *(place for found, _ in looks for place in found)]
    coarse = len(corners)
    qualities = np.concatenate([quality_C, *(values for _, values in looks)])
    undamaged = np.concatenate([undamaged_C, np.repeat(undamaged_C[again], _FINE)])
    sides = np.array([size_px] * coarse + [size_px // 2] * (len(places) - coarse))
    centres, sigmas = np.array(places) + sides[:, None] / 2, config.spread * sides
    boxes = np.round(np.column_stack([places, sides]) * height / canvas.shape[0]).astype(int).tolist()
    crops = tuple(
        Crop(top_px=top, left_px=left, size_px=side, quality=q, undamaged=float(np.exp(u)), fine=i >= coarse)
        for i, ((top, left, side), q, u) in enumerate(zip(boxes, qualities.tolist(), undamaged.tolist(), strict=True))
    )
    shape = canvas.shape[:2]
    return QualityMap(
        crops=crops,
        quality_hw=_spread(centres, qualities, sigmas, shape, size_px),
        undamaged_hw=np.exp(_spread(centres[:coarse], undamaged_C, sigmas[:coarse], shape, size_px)),
        shape_px=(height, width),
        looked_again=len(again),
    )


def crop_corners(shape: tuple[int, ...], size_px: int, config: MapConfig) -> list[tuple[int, int]]:
    """(top, left) in pixels of the crops of an image whose sides are at least `size_px`, row by row."""
    stride = max(size_px * (1 - config.overlap), (max(shape) - size_px) / max(1, config.crops_a_side - 1))
    rows, columns = (
        positions(side - size_px, min(config.crops_a_side, 1 + int(np.ceil((side - size_px) / stride - 1e-9))))
        for side in shape
    )
    return [(top, left) for top in rows for left in columns]


def _seen(canvas: Pixels, corners: list[tuple[int, int]], size_px: int, look: LookAtCrops) -> np.ndarray:
    parts = []
    for start in range(0, len(corners), _AT_ONCE):
        taken = corners[start : start + _AT_ONCE]
        parts.append(look(np.stack([canvas[t : t + size_px, left : left + size_px] for t, left in taken])))
    return np.concatenate(parts)


def _disagreement(corners: list[tuple[int, int]], quality: np.ndarray, size_px: int) -> np.ndarray:
    """(C,) standard deviation of quality among the crops that lie within half a side of each, itself included."""
    places = np.array(corners, float)
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = distance <= size_px / 2
    count = near.sum(axis=1)
    mean = near @ quality / count
    return np.sqrt(np.maximum(near @ quality**2 / count - mean**2, 0))


def _second_look(
    canvas: Pixels, corner: tuple[int, int], size_px: int, look: LookAtCrops, whole: float
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Corners and qualities (9,) of 3 x 3 half-size crops in a given one, whose own quality is `whole`.

    They are filled up to the model's input by their mirror image, so that nothing is enlarged. The nine are moved
    together to have the mean of the crop that they look into: what counts is where in it quality is lost.
    """
    top, left = corner
    half, step = size_px // 2, size_px // 4
    places = [(step * i, step * j) for i in range(3) for j in range(3)]
    crop = canvas[top : top + size_px, left : left + size_px]
    rest = ((0, size_px - half), (0, size_px - half), (0, 0))
    fine_9 = look(np.stack([np.pad(crop[y : y + half, x : x + half], rest, "symmetric") for y, x in places]))[:, 0]
    return [(top + y, left + x) for y, x in places], (fine_9 - fine_9.mean() + whole).clip(0, 1)


def _spread(
    centres_C2: np.ndarray, values_C: np.ndarray, sigmas_C: np.ndarray, shape: tuple[int, ...], size_px: int
) -> np.ndarray:
    """Values at centres -> a map of cells about an eighth of a crop wide."""
    cell = size_px / 8
    rows, columns = (max(1, round(side / cell)) for side in shape[:2])
    y = (np.arange(rows) + 0.5) * shape[0] / rows
    x = (np.arange(columns) + 0.5) * shape[1] / columns
    log_y = -(((y[:, None] - centres_C2[:, 0]) / sigmas_C) ** 2) / 2
    log_x = -(((x[:, None] - centres_C2[:, 1]) / sigmas_C) ** 2) / 2
    logs = log_y[:, None, :] + log_x[None, :, :]
    weights = np.exp(logs - logs.max(axis=2, keepdims=True))  # far from every crop the nearest one decides
    return np.asarray((weights @ values_C) / weights.sum(axis=2))

"""Quality and damage by place: overlapping crops at native resolution, looked at one by one and spread over the image.

A map at a point is the mean of the crops' values, weighted by a Gaussian of the distance to their centres
(Nadaraya-Watson). Where the quality of crops that lie close together disagrees, crops of half the side look again.

Shapes: images (H, W, 3) uint8 RGB; C crops, each with 2 values: quality in [0, 1], and the logarithm of the probability
that it is undamaged; maps (h, w) on a grid of cells over the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from grmp_core.explain.settings import MapConfig
from grmp_core.imaging.views import Pixels, at_least, positions

ScoreCrops = Callable[[np.ndarray], np.ndarray]
"""uint8 crops (C, size, size, 3) -> (C, 2) values."""
_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A square of the image, in pixels of the image, with its values."""

    top_px: int
    left_px: int
    size_px: int
    quality: float
    undamaged: float
    """Probability in [0, 1] that it is undamaged."""
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


def quality_map(image_HW3: Pixels, score: ScoreCrops, size_px: int, config: MapConfig | None = None) -> QualityMap:
    """Map an image by crops of `size_px`. ImageError for a thin strip.

    An image with a shorter side is enlarged before it is cropped, as scoring does.
    """
    config = config or MapConfig()
    height, width = image_HW3.shape[:2]
    canvas: Pixels = image_HW3 if min(height, width) >= size_px else at_least(image_HW3[:, :], size_px)
    corners = _corners(canvas.shape[:2], size_px, config)
    values_C2 = _scored(canvas, corners, size_px, score)
    disagreement = _disagreement(corners, values_C2[:, 0], size_px)
    order = np.argsort(-disagreement, kind="stable")[: config.second_looks]
    again = [int(i) for i in order if disagreement[i] > config.disagreement]
    fine = [_second_look(canvas, corners[i], size_px, score, values_C2[i]) for i in again]
    fine_corners = [corner for found, _ in fine for corner in found]
    all_C2 = np.concatenate([values_C2, *(values for _, values in fine)])
    sides = np.array([size_px] * len(corners) + [size_px // 2] * len(fine_corners))
    places = np.array([*corners, *fine_corners], dtype=float)
    centres, sigmas = places + sides[:, None] / 2, config.spread * sides
    quality, undamaged = (_spread(centres, v, sigmas, canvas.shape[:2], size_px) for v in all_C2.T)
    boxes = np.round(np.column_stack([places, sides]) * height / canvas.shape[0]).astype(int).tolist()
    crops = tuple(
        Crop(
            top_px=box[0], left_px=box[1], size_px=box[2], quality=q, undamaged=float(np.exp(u)), fine=i >= len(corners)
        )
        for i, (box, (q, u)) in enumerate(zip(boxes, all_C2.tolist(), strict=True))
    )
    return QualityMap(
        crops=crops,
        quality_hw=quality,
        undamaged_hw=np.exp(undamaged),
        shape_px=(height, width),
        looked_again=len(again),
    )


def _corners(shape: tuple[int, ...], size_px: int, config: MapConfig) -> list[tuple[int, int]]:
    stride = max(size_px * (1 - config.overlap), (max(shape) - size_px) / max(1, config.crops_a_side - 1))
    rows, columns = (
        positions(side - size_px, min(config.crops_a_side, 1 + int(np.ceil((side - size_px) / stride - 1e-9))))
        for side in shape
    )
    return [(top, left) for top in rows for left in columns]


def _scored(canvas: Pixels, corners: list[tuple[int, int]], size_px: int, score: ScoreCrops) -> np.ndarray:
    parts = []
    for start in range(0, len(corners), _AT_ONCE):
        taken = corners[start : start + _AT_ONCE]
        parts.append(score(np.stack([canvas[t : t + size_px, left : left + size_px] for t, left in taken])))
    return np.concatenate(parts).astype(np.float64)


def _disagreement(corners: list[tuple[int, int]], quality: np.ndarray, size_px: int) -> np.ndarray:
    """(C,) standard deviation of quality among the crops that lie within half a side of each, itself included."""
    places = np.array(corners, float)
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = distance <= size_px / 2
    count = near.sum(axis=1)
    mean = near @ quality / count
    return np.sqrt(np.maximum(near @ quality**2 / count - mean**2, 0))


def _second_look(
    canvas: Pixels, corner: tuple[int, int], size_px: int, score: ScoreCrops, whole_2: np.ndarray
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Corners and values (9, 2) of 3 x 3 half-size crops in a given one.

    They are filled up to the model's input by their mirror image, so that nothing is enlarged. The nine are moved
    together to have the mean of the crop that they look into: what counts is where in it quality is lost.
    """
    top, left = corner
    half, step = size_px // 2, size_px // 4
    places = [(step * i, step * j) for i in range(3) for j in range(3)]
    crop = canvas[top : top + size_px, left : left + size_px]
    rest = ((0, size_px - half), (0, size_px - half), (0, 0))
    fine = score(np.stack([np.pad(crop[y : y + half, x : x + half], rest, "symmetric") for y, x in places]))
    moved = fine - fine.mean(axis=0) + whole_2
    moved = np.column_stack([moved[:, 0].clip(0, 1), moved[:, 1].clip(None, 0)])
    return [(top + y, left + x) for y, x in places], moved


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

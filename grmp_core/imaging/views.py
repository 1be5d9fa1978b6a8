"""Views, the crops of a photo that the model sees: a finite, seeded set.

Finite, because then whatever is frozen in front of the learned part can be computed once a view and kept.

Shapes: images (H, W, 3) uint8 RGB, as arrays or as what gives regions of them; views (V, size, size, 3) uint8 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from annotated_types import Ge

from grmp_core.errors import ImageError
from grmp_core.seeds import generator_of
from grmp_core.settings import Settings

OFFICIAL_STRETCH = 244 / 224
"""The published code (data_preparation_mat) stretches an image to 244 x 244 by bicubic interpolation, without a filter
against aliasing, before it takes a 224 px crop: it keeps more fine detail, real and false, than `resize` does."""
MAX_ENLARGED_PX = 50_000_000
"""Pixels that an image may have once its short side is enlarged to the input size: with 224 px, 1 : 996 in shape. A
thin strip of a few kB would else become gigabytes."""


class Pixels(Protocol):
    """An array (H, W, 3) uint8 RGB, or what gives regions of one: `decoding.DecodedImage`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, region: tuple[slice, slice], /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Settings):
    """Views of an image that the model is given."""

    mode: Literal["crops", "resize", "official"] = "crops"
    """`crops`: at native resolution. `resize`: short side to the input size first. `official`: the published 244 x 244
    stretch."""
    train_views: Annotated[int, Ge(1)] = 4
    """Views an image in training, flips included; the first is drawn like the others. Published: a new crop an epoch,
    the same for all images of a batch, at offsets 0 to 19 (here 0 to 20), flipped where the horizontal one is below 10
    (here by chance of its own)."""
    score_grid: Annotated[int, Ge(1)] = 3
    """Scoring takes score_grid x score_grid evenly spread views and averages their quality; 1: the centre. Published:
    1."""


def training_views(image_HW3: Pixels, config: ViewConfig, size_px: int, *seed: object) -> np.ndarray:
    """`train_views` random crops, each flipped or not, drawn from `seed` alone. ImageError for a thin strip."""
    canvas = _canvas(image_HW3, config, size_px)
    rng = generator_of("view", *seed)
    views = []
    for _ in range(config.train_views):
        top = int(rng.integers(canvas.shape[0] - size_px + 1))
        left = int(rng.integers(canvas.shape[1] - size_px + 1))
        view = canvas[top : top + size_px, left : left + size_px]
        views.append(view[:, ::-1] if rng.random() < 0.5 else view)
    return np.stack(views)


def scoring_views(image_HW3: Pixels, config: ViewConfig, size_px: int) -> np.ndarray:
    """The fixed grid of views, (G, size, size, 3) with G a divisor of score_grid².

    Along a side that leaves no room for `score_grid` different positions there is one, in the middle. ImageError for a
    thin strip.
    """
    canvas = _canvas(image_HW3, config, size_px)
    tops = positions(canvas.shape[0] - size_px, config.score_grid)
    lefts = positions(canvas.shape[1] - size_px, config.score_grid)
    return np.stack([canvas[t : t + size_px, left : left + size_px] for t in tops for left in lefts])


def whole_grid(views_GHW3: np.ndarray, config: ViewConfig) -> np.ndarray:
    """`scoring_views` of any picture -> score_grid² views, each as often as any other: the same mean, one shape."""
    return np.repeat(views_GHW3, config.score_grid**2 // len(views_GHW3), axis=0)


def at_least(image_HW3: np.ndarray, size_px: int) -> np.ndarray:
    """The image itself, or enlarged so that its short side is `size_px`. ImageError for a thin strip."""
    if min(image_HW3.shape[:2]) >= size_px:
        return image_HW3
    check_shape(image_HW3.shape, size_px)
    return _resize_short_side(image_HW3, size_px)


def at_most(image_HW3: np.ndarray, size_px: int) -> np.ndarray:
    """The image itself, or shrunk so that its short side is `size_px`."""
    return image_HW3 if min(image_HW3.shape[:2]) <= size_px else _resize_short_side(image_HW3, size_px)


def _canvas(image: Pixels, config: ViewConfig, size_px: int) -> Pixels:
    """The picture that views are cut from. At native resolution no more than they need is asked of `image`."""
    if config.mode == "official":
        side = official_side_px(size_px)
        return cv2.resize(image[:, :], (side, side), interpolation=cv2.INTER_CUBIC)
    if config.mode == "crops" and min(image.shape[:2]) >= size_px:
        return image
    check_shape(image.shape, size_px)
    return _resize_short_side(image[:, :], size_px)


def official_side_px(size_px: int) -> int:
    """Side of the square that `official` views are cut from."""
    return round(size_px * OFFICIAL_STRETCH)


def check_shape(shape: tuple[int, ...], size_px: int) -> None:
    """ImageError where enlarging the short side to `size_px` would give more than `MAX_ENLARGED_PX`."""
    height, width = shape[:2]
    enlarged_px = size_px * size_px * max(height, width) // min(height, width)
    if min(height, width) < size_px and enlarged_px > MAX_ENLARGED_PX:
        raise ImageError(
            f"too thin: {width}x{height} with its short side enlarged to {size_px} px is {enlarged_px} pixels, more "
            f"than {MAX_ENLARGED_PX}"
        )


def short_side_shape(shape: tuple[int, ...], size_px: int) -> tuple[int, int]:
    """Height and width of a picture (H, W, ...) once its short side is `size_px`."""
    factor = size_px / min(shape[:2])
    return max(size_px, round(shape[0] * factor)), max(size_px, round(shape[1] * factor))


def _resize_short_side(image: np.ndarray, size_px: int) -> np.ndarray:
    height, width = short_side_shape(image.shape, size_px)
    shrinks = size_px < min(image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def positions(slack_px: int, count: int) -> list[int]:
    """Offsets of `count` views along a side that is `slack_px` longer than they are; one where there is no room."""
    if count == 1 or slack_px < count - 1:
        return [slack_px // 2]
    return [round(slack_px * i / (count - 1)) for i in range(count)]

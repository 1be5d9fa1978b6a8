"""Score images with a bundle: any sizes in one call, a bad image costs its own row only.

An image's score does not depend on the images that are scored with it, to the last bit.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from grmp_core.imaging.decoding import ImageError, ImageLimits, read_image
from grmp_core.imaging.views import scoring_views
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import Bundle, load_predictor


@dataclass(frozen=True)
class Score:
    quality: float
    """In [0, 1], 1 best; NaN where `error` says why there is none."""
    mos_scale_score: float
    """On the target's own MOS scale; NaN for a bundle that was never adapted to a target."""
    error: str | None = None


class Scorer:
    """A bundle ready to score. `where` names the bundle in messages; `device` as torch spells it."""

    def __init__(
        self,
        bundle: Bundle,
        where: str,
        *,
        limits: ImageLimits | None = None,
        backbone: Backbone | None = None,
        device: str = "cpu",
        batch_size: int = 16,
        score_grid: int = 0,
    ) -> None:
        """score_grid: views a side whose quality is averaged; 0: as many as the bundle was adapted with."""
        self.bundle = bundle
        self.views = dataclasses.replace(bundle.views, score_grid=score_grid) if score_grid else bundle.views
        self.limits = limits or ImageLimits()
        self.predictor = load_predictor(bundle, where, backbone, device)
        self.batch_size = batch_size

    def score(self, sources: Sequence[bytes | str | os.PathLike[str] | ImageError]) -> list[Score]:
        """One Score for each encoded image or path, in order; an ImageError in its place becomes that row's error."""
        images: list[np.ndarray | ImageError] = []
        for source in sources:
            try:
                images.append(source if isinstance(source, ImageError) else read_image(source, self.limits))
            except ImageError as error:
                images.append(error)
        return self.score_images(images)

    def score_images(self, images: Sequence[np.ndarray | ImageError]) -> list[Score]:
        """One Score for each (H, W, 3) uint8 image; an ImageError in its place becomes that row's error."""
        size_px = self.predictor.model.image_size_px
        grids = [
            None if isinstance(image, ImageError) else scoring_views(image, self.views, size_px) for image in images
        ]
        views = [view for grid in grids if grid is not None for view in grid]
        qualities = self._predict(views)
        scores, first = [], 0
        for image, grid in zip(images, grids, strict=True):
            if grid is None or isinstance(image, ImageError):
                scores.append(Score(math.nan, math.nan, getattr(image, "reason", "unreadable")))
                continue
            quality = float(qualities[first : first + len(grid)].mean())
            first += len(grid)
            scores.append(Score(quality, self._on_mos_scale(quality)))
        return scores

    def _predict(self, views: list[np.ndarray]) -> np.ndarray:
        """Every batch is filled up to `batch_size`: in another size, other kernels round otherwise, and an image's
        score would depend on how many come with it."""
        qualities = np.zeros(0, dtype=np.float32)
        for first in range(0, len(views), self.batch_size):
            part = np.stack(views[first : first + self.batch_size])
            filled = np.zeros((self.batch_size, *part.shape[1:]), dtype=part.dtype)
            filled[: len(part)] = part
            found = self.predictor(torch.from_numpy(filled)).cpu().numpy()[: len(part)]
            qualities = np.concatenate([qualities, found])
        return qualities

    def _on_mos_scale(self, quality: float) -> float:
        return math.nan if self.bundle.score_range is None else float(self.bundle.score_range.to_mos(quality))

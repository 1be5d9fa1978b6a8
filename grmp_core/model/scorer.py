"""Score images with a bundle: any sizes in one call, a bad image costs its own row only.

An image's score does not depend on the images that are scored with it, to the last bit.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image
from grmp_core.imaging.views import Pixels, scoring_views
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import Bundle, load_predictor


@dataclass(frozen=True)
class Score:
    quality: float
    """In [0, 1], 1 best; NaN where `error` says why there is none."""
    mos_scale_score: float
    """On the target's own MOS scale; NaN for a bundle that was never adapted to a target."""
    error: str | None = None
    notes: tuple[str, ...] = ()
    """Doubts about the pixels, as `decoding.DecodedImage` has them."""


@dataclass(frozen=True, kw_only=True)
class _Views:
    """The views of an image, or why there are none."""

    grid_GHW3: np.ndarray | tuple[()] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()


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

    def score(self, sources: Iterable[bytes | str | os.PathLike[str] | ImageError]) -> list[Score]:
        """One Score for each encoded image or path, in order; an ImageError in its place becomes that row's error.

        One image is decoded at a time, and only its views are kept.
        """
        return self._scores([self._views_of_file(source) for source in sources])

    def score_images(self, images: Sequence[np.ndarray | ImageError]) -> list[Score]:
        """One Score for each (H, W, 3) uint8 image; an ImageError in its place becomes that row's error."""
        return self._scores([self._views_of(image) for image in images])

    def _views_of_file(self, source: bytes | str | os.PathLike[str] | ImageError) -> _Views:
        if isinstance(source, ImageError):
            return _Views(error=source.reason)
        try:
            image = decode_image(source, self.limits)
        except ImageError as error:
            return _Views(error=error.reason)
        return dataclasses.replace(self._views_of(image), notes=image.notes)

    def _views_of(self, image: Pixels | ImageError) -> _Views:
        if isinstance(image, ImageError):
            return _Views(error=image.reason)
        try:
            return _Views(grid_GHW3=scoring_views(image, self.views, self.predictor.model.image_size_px))
        except ImageError as error:
            return _Views(error=error.reason)

    def _scores(self, images: Sequence[_Views]) -> list[Score]:
        qualities = self._predict([view for image in images for view in image.grid_GHW3])
        scores, first = [], 0
        for image in images:
            if image.error is not None:
                scores.append(Score(math.nan, math.nan, image.error, image.notes))
                continue
            quality = float(qualities[first : first + len(image.grid_GHW3)].mean())
            first += len(image.grid_GHW3)
            scores.append(Score(quality, self._on_mos_scale(quality), notes=image.notes))
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

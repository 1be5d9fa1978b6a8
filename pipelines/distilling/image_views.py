"""The views of an image that teacher and student both see."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image, image_bytes, image_id
from grmp_core.imaging.views import ViewConfig, training_views
from pipelines.scoring.image_tables import ImageInput, ImageReader


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """All that decides which views an image of known content has."""

    views: ViewConfig
    size_px: int
    seed: int
    limits: ImageLimits


class ViewReader:
    """Reads images and cuts their views, which are drawn by the images' content alone."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan = plan
        self._reader = ImageReader()

    def content(self, image: ImageInput) -> tuple[str, bytes]:
        """Hash and bytes of an image. ImageError where it cannot be read."""
        source = self._reader.read(image)
        if isinstance(source, ImageError):
            raise source
        data = image_bytes(os.fspath(source)) if isinstance(source, str | os.PathLike) else source
        if not isinstance(data, bytes):
            raise ImageError("holds pixels without a file format")
        return image_id(data), data

    def views(self, content: tuple[str, bytes]) -> np.ndarray:
        """(V, size, size, 3) uint8 of what `content` gives. ImageError where it cannot be decoded."""
        identity, data = content
        plan = self.plan
        return training_views(decode_image(data, plan.limits), plan.views, plan.size_px, plan.seed, identity)

    def views_of(self, image: ImageInput) -> np.ndarray:
        """As `views`."""
        return self.views(self.content(image))

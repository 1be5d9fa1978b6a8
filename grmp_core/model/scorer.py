"""Score images with a bundle: any sizes in one call, a bad image costs its own row only.

Images are decoded and scored one by one, so one decoded image is in memory at a time, and a forward pass has views of
one image only. So the score of an image does not depend, to the last bit, on what is scored with it: in a batch of
another size, or at another place of a batch, the kernels add up in another order.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image
from grmp_core.imaging.views import Pixels, scoring_views
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import Bundle, load_predictor

Source = bytes | str | os.PathLike[str] | np.ndarray | ImageError
"""An encoded image, the local path of one, its pixels (H, W, 3) uint8 RGB, or why there is none."""


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
class ImageViews:
    """The views of an image, or why there are none."""

    views_GHW3: np.ndarray | None = None
    """(G, size, size, 3) uint8; null where there is an error."""
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
        """limits: of the images; colour profiles are applied where the bundle says so.
        batch_size: views in a forward pass, at most; an image with more takes several.
        score_grid: views a side whose quality is averaged; 0: as many as the bundle was adapted with.
        """
        self.bundle = bundle
        self.views = dataclasses.replace(bundle.views, score_grid=score_grid) if score_grid else bundle.views
        self.limits = dataclasses.replace(limits or ImageLimits(), colour_profiles=bundle.colour_profiles)
        self.predictor = load_predictor(bundle, where, backbone, device)
        self.batch_size = batch_size

    def score(self, sources: Iterable[Source]) -> list[Score]:
        """One Score a source, in order; each is decoded when its turn comes."""
        return [self.score_views(self.views_of(source)) for source in sources]

    def views_of(self, source: Source) -> ImageViews:
        """Decode an image and cut its views. Whatever is raised by that costs this image only."""
        notes: tuple[str, ...] = ()
        try:
            if isinstance(source, ImageError):
                raise source
            pixels: Pixels
            if isinstance(source, np.ndarray):
                pixels = source
            else:
                pixels = image = decode_image(source, self.limits)
                notes = image.notes
            views_GHW3 = scoring_views(pixels, self.views, self.predictor.model.image_size_px)
        except ImageError as error:
            return ImageViews(error=error.reason, notes=notes)
        except Exception as error:  # OpenCV and NumPy have errors of their own
            reason = f"cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            return ImageViews(error=reason, notes=notes)
        return ImageViews(views_GHW3=views_GHW3, notes=notes)

    def score_views(self, image: ImageViews) -> Score:
        """The Score of one image."""
        if image.views_GHW3 is None:
            return Score(math.nan, math.nan, image.error, image.notes)
        batches = torch.from_numpy(image.views_GHW3).split(self.batch_size)
        quality = float(np.concatenate([self.predictor(batch).cpu().numpy() for batch in batches]).mean())
        scale = self.bundle.score_range
        return Score(quality, math.nan if scale is None else float(scale.to_mos(quality)), notes=image.notes)

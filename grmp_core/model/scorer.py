"""Score images with a bundle: any sizes in one call, a bad image costs its own row only.

Images are decoded and scored one by one, so one decoded image is in memory at a time, and a forward pass has views of
one image only. So the score of an image does not depend, to the last bit, on what is scored with it: in a batch of
another size, or at another place of a batch, the kernels add up in another order.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from grmp_core.confidence.domain import domain_of
from grmp_core.confidence.evidence import Evidence
from grmp_core.confidence.intervals import interval_of, margin_of
from grmp_core.confidence.unlike import Likeness
from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image
from grmp_core.imaging.views import Pixels, scoring_views
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import Bundle, load_predictor
from grmp_core.model.ensemble import WEIGHTS, EnsemblePredictor, spread_of, weighted_mean

Source = bytes | str | os.PathLike[str] | np.ndarray | ImageError
"""An encoded image, the local path of one, its pixels (H, W, 3) uint8 RGB, or why there is none."""


@dataclass(frozen=True)
class Score:
    quality: float
    """In [0, 1], 1 best; NaN where `error` says why there is none."""
    mos_scale_score: float
    """On the target's own MOS scale; NaN for a bundle that was never adapted to a target."""
    quality_low: float | None = None
    quality_high: float | None = None
    """Ends of the interval that is to hold the label, by `ScoreTrust.coverage`; null where it is not known."""
    score_low: float | None = None
    score_high: float | None = None
    """The same on the MOS scale."""
    unlike: bool | None = None
    """Whether the image is unlike those that the model knows; null where that cannot be told."""
    error: str | None = None
    notes: tuple[str, ...] = ()
    """Doubts about the pixels, as `decoding.DecodedImage` has them."""
    spread: float | None = None
    """Of an ensemble: standard deviation of its members' qualities, by weight."""
    distance: float | None = None
    """From the images that the model knows, as `Likeness.distance`; null where `unlike` is."""


@dataclass(frozen=True, kw_only=True)
class ImageViews:
    """The views of an image, or why there are none."""

    views_GHW3: np.ndarray | None = None
    """(G, size, size, 3) uint8; null where there is an error."""
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScoreTrust:
    """Settings of the reliability that comes with a score."""

    coverage: float = 0.9
    """Share of new images whose label the interval is to hold, in (0, 1)."""
    unlike_share: float = 0.05
    """Share of held-out photos that may be called unlike, in (0, 1)."""


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
        trust: ScoreTrust | None = None,
    ) -> None:
        """limits: of the images; colour profiles are applied where the bundle says so.
        batch_size: views in a forward pass, at most; an image with more takes several.
        score_grid: views per side whose quality is averaged; 0: as many as the bundle was adapted with. With another
            number there are no intervals, which were measured with that one.
        trust: coverage of the intervals and share of unlike images; null: the defaults.
        """
        self.bundle = bundle
        self.views = dataclasses.replace(bundle.views, score_grid=score_grid) if score_grid else bundle.views
        self.limits = dataclasses.replace(limits or ImageLimits(), colour_profiles=bundle.colour_profiles)
        self.batch_size = batch_size
        trust = trust or ScoreTrust()
        self.evidence = bundle.evidence if untrusted_because(bundle, score_grid) is None else None
        self.margin: float | None = None
        self.likeness: Likeness | None = None
        if self.evidence is not None:
            self.margin = margin_of(self.evidence.predicted_N, self.evidence.quality_N, trust.coverage)
            self.likeness = likeness_of(bundle, self.evidence, trust.unlike_share)
        deep = self.likeness is not None and self.evidence is not None and self.evidence.deep
        self.predictor = load_predictor(bundle, where, backbone, device, deep=deep)

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
            return Score(math.nan, math.nan, error=image.error, notes=image.notes)
        batches = torch.from_numpy(image.views_GHW3).split(self.batch_size)
        quality, seen, spread = self._looked_at(batches)
        unlike, distance = (None, None) if seen is None else (bool(seen[0] > 0), float(seen[1]))
        scale = self.bundle.score_range
        mos = math.nan if scale is None else float(scale.to_mos(quality))
        ends = self._interval(quality)
        return Score(quality, mos, *ends, unlike, notes=image.notes, spread=spread, distance=distance)

    def _looked_at(self, batches: Sequence[torch.Tensor]) -> tuple[float, tuple[float, float] | None, float | None]:
        """Mean quality of all views, `Likeness.look` of them where there is one, and the spread of an ensemble."""
        predictor = self.predictor
        if isinstance(predictor, EnsemblePredictor):
            quality_M = torch.cat([predictor.each(batch) for batch in batches], dim=1).mean(dim=1)
            weights_M = predictor.image_weights(batches)
            return float(weighted_mean(quality_M, weights_M)), None, spread_of(quality_M, weights_M)
        if self.likeness is None:
            return _mean([predictor(batch) for batch in batches]), None, None
        qualities, statistics = zip(*map(predictor.look, batches), strict=True)
        statistics_F = torch.cat(statistics).mean(dim=0).cpu().numpy()
        (excess,), (distance,) = self.likeness.look(statistics_F[None])
        return _mean(qualities), (excess, distance), None

    def _interval(self, quality: float) -> tuple[float | None, float | None, float | None, float | None]:
        """Low and high end in quality, low and high end in MOS; null where there is none."""
        if self.margin is None:
            return None, None, None, None
        low, high = (float(end) for end in interval_of(quality, self.margin))
        scale = self.bundle.score_range
        if scale is None:
            return low, high, None, None
        score_low, score_high = sorted(float(scale.to_mos(end)) for end in (low, high))
        return low, high, score_low, score_high


def _mean(qualities: Sequence[torch.Tensor]) -> float:
    return float(np.concatenate([part.cpu().numpy() for part in qualities]).mean())


def likeness_of(bundle: Bundle, evidence: Evidence, unlike_share: float = ScoreTrust.unlike_share) -> Likeness | None:
    """The measure of images that are unlike those a bundle knows; null where it has nothing to compare with."""
    domain = domain_of(bundle.backbone.name, bundle.backbone_sha256) if evidence.deep else None
    likeness = Likeness(evidence, domain, unlike_share)
    return likeness if likeness.known else None


def untrusted_because(bundle: Bundle, score_grid: int = 0) -> str | None:
    """Why a bundle's scores come without intervals; null where they have them."""
    if bundle.kind == "prompts":
        return "it is not adapted to labels"
    if WEIGHTS in bundle.parameters:
        return "it is an ensemble, whose members have no held-out predictions in common"
    if "teacher" in bundle.provenance:
        return "it is a student, which has learned from every label that it was given"
    if bundle.evidence is None:
        return "it keeps no held-out predictions (made by an earlier version, or with adapt.folds=1); adapt it again"
    if score_grid not in (0, bundle.views.score_grid):
        return f"score.grid is {score_grid}, but its errors were measured with {bundle.views.score_grid}"
    return None

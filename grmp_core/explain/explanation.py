"""The explanation of one image's score: detect, analyse, choose the tool, score; and the facts as JSON.

Every number is rounded once, when it becomes a fact; sentences (`sentences`) repeat facts and compute nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from grmp_core.explain.damage_types import UNDAMAGED, TypeDetector, TypeProbability, words_of
from grmp_core.explain.measurements import measure, middle_of
from grmp_core.explain.place_damage import PlaceDetector, look_at_crops
from grmp_core.explain.quality_map import QualityMap, quality_map
from grmp_core.explain.references import compare
from grmp_core.explain.remedies import REMEDIES
from grmp_core.explain.sentences import sentences_of
from grmp_core.explain.settings import MapConfig, ReasonConfig
from grmp_core.explain.tool_choice import DIGITS, CleanRanges, choose_tool, read_ranges
from grmp_core.imaging.views import Pixels, scoring_views
from grmp_core.model.features import image_features
from grmp_core.model.predictor import Predictor
from grmp_core.model.scorer import ImageViews, Scorer


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Facts about one image as JSON types, and the map that they summarize."""

    facts: dict[str, Any]
    quality_map: QualityMap


class Explainer:
    """A model ready to explain its scores."""

    def __init__(
        self,
        scorer: Scorer,
        detector: TypeDetector,
        places: PlaceDetector | None = None,
        *,
        crops: MapConfig | None = None,
        reasons: ReasonConfig | None = None,
        ranges: CleanRanges | None = None,
    ) -> None:
        """detector: of the backbone as it was before any adaptation, which still knows its sentences.

        places: of the same weights; without it the sentences tell of each crop by itself whether it is undamaged.
        """
        self.scorer, self.detector, self.places = scorer, detector, places
        self.crops, self.reasons = crops or MapConfig(), reasons or ReasonConfig()
        self.ranges = ranges or read_ranges()
        self._same_features = _has_own_features(scorer)
        """The model's image features are the backbone's own: one pass of the image tower serves both."""

    def explain(self, image_HW3: Pixels, reference_HW3: Pixels | None = None) -> Explanation:
        """ImageError for a thin strip; InputError for a reference of another size."""
        size_px = self.scorer.predictor.model.image_size_px
        views_GHW3 = scoring_views(image_HW3, self.scorer.views, size_px)
        score = self.scorer.score_views(ImageViews(views_GHW3=views_GHW3))
        found_map = quality_map(image_HW3, self.look, self.judge, size_px, self.crops)
        types = self.detector.probabilities(image_HW3)
        groups = group_probabilities(types)
        measured = measure(image_HW3)
        choice = choose_tool(groups, measured, self.ranges, has_reference=reference_HW3 is not None)
        against = None
        if reference_HW3 is not None:
            against = {k: _rounded(v) for k, v in compare(image_HW3[:, :], reference_HW3[:, :]).as_dict().items()}
        quality = _rounded(score.quality)
        measurements = {
            name: {"value": _rounded(value), "share_of_clean_below": _rounded(self.ranges.share_below(name, value))}
            for name, value in measured.as_dict().items()
        }
        witness = choice.estimator
        calibration = self.detector.calibration
        facts: dict[str, Any] = {
            "height_px": image_HW3.shape[0],
            "width_px": image_HW3.shape[1],
            "quality": quality,
            "quality_scale": [0, 1],
            "mos_scale_score": _rounded(score.mos_scale_score),
            "quality_low": score.quality_low if score.quality_low is None else _rounded(score.quality_low),
            "quality_high": score.quality_high if score.quality_high is None else _rounded(score.quality_high),
            "unlike": score.unlike,
            "map": map_facts(found_map) | {"crops_compared": self.places is not None},
            "undamaged": _rounded(groups[UNDAMAGED]),
            "types": type_facts(types)[: self.reasons.types],
            "types_calibrated": calibration is not None,
            "groups": {name: _rounded(probability) for name, probability in groups.items()},
            "measurements": measurements,
            "clean_photos": self.ranges.photos,
            "reference": against,
            "tool": {
                "kind": choice.kind,
                "name": choice.name,
                "value": ((against or {}) | {"quality": quality})[choice.name],
                "why": choice.why,
                "estimator": witness and witness.name,
                "estimator_value": witness and measurements[witness.name]["value"],
                "estimator_confirms": choice.confirms,
            },
            "undone": self._undone(image_HW3, groups),
        }
        return Explanation(facts=facts | {"sentences": sentences_of(facts)}, quality_map=found_map)

    def look(self, crops_CHW3: np.ndarray) -> np.ndarray:
        """uint8 crops (C, size, size, 3) -> (C, 2 + S): quality, log probability of no damage by sentences about each
        crop alone, and the S statistics that `places` reads, if there is one."""
        parts = np.split(crops_CHW3, range(self.scorer.batch_size, len(crops_CHW3), self.scorer.batch_size))
        backbone, statistics = self.detector.backbone, list[np.ndarray]()
        if self.places is None:
            unit_CE = image_features(backbone, parts).unit_NE
        else:
            looks = look_at_crops(backbone, parts)
            unit_CE, statistics = looks.unit_CE, [looks.statistics_CS]
        predictor = self.scorer.predictor
        if self._same_features and isinstance(predictor, Predictor):
            quality_C = predictor.from_features(unit_CE.to(predictor.model.device))
        else:
            quality_C = torch.cat([predictor(torch.from_numpy(part)) for part in parts])
        return np.column_stack([quality_C.cpu().numpy(), self.detector.log_undamaged(unit_CE), *statistics])

    def judge(self, told_CS: np.ndarray, centres_C2: np.ndarray) -> np.ndarray:
        """(C,) log probability that a place in each crop of one image is undamaged.

        Args:
            told_CS: what `look` gives behind the quality.
            centres_C2: of the crops, as shares of the image's height and width.
        """
        if self.places is None:
            return told_CS[:, 0]
        return self.places.log_undamaged(told_CS[:, 1:], centres_C2)

    def _undone(self, image_HW3: Pixels, groups: dict[str, float]) -> list[dict[str, Any]]:
        """Quality of the middle part before and after each repair that the detected families ask for."""
        asked = [name for name, probability in groups.items() if name in REMEDIES]
        asked = [name for name in asked if groups[name] >= self.reasons.undo_above]
        if not asked:
            return []
        part = middle_of(image_HW3)
        before = self.scorer.score([part])[0].quality
        estimates = []
        for name in sorted(asked, key=lambda name: -groups[name]):
            after = self.scorer.score([REMEDIES[name].apply(part)])[0].quality
            facts = {"before": _rounded(before), "after": _rounded(after), "gain": _rounded(after - before)}
            estimates.append({"group": name, "remedy": REMEDIES[name].name, **facts})
        return estimates


def group_probabilities(types: Sequence[TypeProbability]) -> dict[str, float]:
    """Probability of every family of damage and of `undamaged`, which add up to 1."""
    groups: dict[str, float] = defaultdict(float)
    for kind in types:
        groups[kind.group] += kind.probability
    return {UNDAMAGED: groups.pop(UNDAMAGED, 0.0)} | dict(sorted(groups.items()))


def map_facts(found: QualityMap) -> dict[str, Any]:
    """A map as JSON types: its summary, its crops, and its cells from top to bottom."""
    costliest = found.costliest
    return {
        "mean": _rounded(found.mean),
        "std": _rounded(float(np.std([crop.quality for crop in found.coarse]))),
        "lowest": _lowest(found, found.quality_hw, "quality"),
        "most_damaged": _lowest(found, found.undamaged_hw, "undamaged"),
        "costliest": {
            "top_px": costliest.top_px,
            "left_px": costliest.left_px,
            "size_px": costliest.size_px,
            "quality": _rounded(costliest.quality),
            "cost": _rounded(found.cost),
        },
        "looked_again": found.looked_again,
        "crops": [
            {
                "top_px": crop.top_px,
                "left_px": crop.left_px,
                "size_px": crop.size_px,
                "quality": _rounded(crop.quality),
                "undamaged": _rounded(crop.undamaged),
                "fine": crop.fine,
            }
            for crop in found.crops
        ],
        "quality_cells": [[_rounded(value) for value in row] for row in found.quality_hw.tolist()],
        "undamaged_cells": [[_rounded(value) for value in row] for row in found.undamaged_hw.tolist()],
    }


def _lowest(found: QualityMap, cells_hw: np.ndarray, name: str) -> dict[str, Any]:
    row, column = found.lowest(cells_hw)
    return {"row_px": row, "column_px": column, name: _rounded(float(cells_hw.min()))}


def _has_own_features(scorer: Scorer) -> bool:
    """Whether nothing learned takes part in the image features of a model, and both compute in float32."""
    bundle, model = scorer.bundle, scorer.predictor.model
    learned = any(name.startswith(("visual_prompt.", "clip.visual.")) for name in bundle.parameters)
    return not learned and model.visual_prompt is None and model.head is None and bundle.precision == "fp32"


def type_facts(types: Sequence[TypeProbability]) -> list[dict[str, Any]]:
    """Types of damage with their probabilities if there is damage, which add up to 1; the most probable first."""
    damage = [kind for kind in types if kind.name != UNDAMAGED]
    total = max(sum(kind.probability for kind in damage), 1e-12)
    return [
        {
            "name": kind.name,
            "words": words_of(kind.name),
            "group": kind.group,
            "probability": _rounded(kind.probability / total),
        }
        for kind in damage
    ]


def _rounded(value: float) -> float | None:
    """Three digits behind the point; null for NaN."""
    return None if math.isnan(value) else round(float(value), DIGITS)

"""The score above which images pass, from the held-out predictions of a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from grmp_core.confidence.acceptance import Acceptance, acceptance_threshold, images_needed
from grmp_core.errors import InputError
from grmp_core.model.scorer import untrusted_because
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ThresholdConfig
from pipelines.scoring.model_lookup import open_model

_ROUNDING = 1e-6
"""Labels are kept as float32."""


@dataclass(frozen=True, kw_only=True)
class PassThreshold:
    """Result of `grmp threshold`."""

    model: str
    asked: ThresholdConfig
    labelled: int
    passing: int
    """Labelled images whose human score passes."""
    acceptance: Acceptance
    quality: float
    """Images with a predicted quality above it pass; NaN where no threshold keeps the promise."""
    score: float
    """The same on the scale of the human scores."""
    higher_is_better: bool

    @property
    def exit_code(self) -> int:
        """1 without a threshold."""
        return int(math.isnan(self.quality))

    def as_json(self) -> dict[str, Any]:
        content = {"model": self.model, **asdict(self.asked), "labelled": self.labelled, "passing": self.passing}
        found = {k: v for k, v in asdict(self.acceptance).items() if k != "threshold"}
        return {**content, "quality": self.quality, "score": self.score, **found}

    def as_text(self) -> str:
        found, asked = self.acceptance, self.asked
        promise = f"at least {asked.precision:.1%} pass, with {asked.confidence:.1%} confidence"
        side = "above" if self.higher_is_better else "below"
        wrong = f"{found.errors} of them do not reach {asked.pass_mos:g}"
        if not math.isnan(self.quality):
            return (
                f"score {side} {self.score:.4g} (quality above {self.quality:.4f}): {promise}\n"
                f"{found.accepted} of {self.labelled} labelled images are on that side ({found.share:.0%}), {wrong}; "
                f"the precision is at least {found.precision_low:.3f}\n{self.model}"
            )
        needed = images_needed(asked.precision, asked.confidence)
        seen = f"the best {found.accepted} of {self.labelled} labelled images by held-out score: {wrong}"
        if found.errors:
            advice = f"label until the best {needed} have no such image, or lower --precision or the bar (--pass-mos)"
        else:
            advice = f"{found.missing} more are missing"
        return (
            f"no threshold at which {promise}: that takes {needed} accepted images without an error\n"
            f"{seen}; {advice}\n{self.model}"
        )


def find_threshold(config: Config) -> PassThreshold:
    """The lowest threshold that `score.model` can promise, from its held-out predictions.

    InputError where the model keeps none, or threshold.pass_mos is missing or no score of the scale.
    """
    asked = config.threshold
    if asked.pass_mos is None:
        raise InputError("threshold.pass_mos is not set: give the human score that an image must reach (--pass-mos 60)")
    model, bundle = open_model(config)
    scale = bundle.score_range
    if bundle.evidence is None or scale is None:
        raise InputError(f"{model}: no threshold can be set, since {untrusted_because(bundle)}")
    if not scale.mos_min <= asked.pass_mos <= scale.mos_max:
        raise InputError(
            f"threshold.pass_mos {asked.pass_mos:g} is outside the scale of {model}, {scale.mos_min:g} to "
            f"{scale.mos_max:g}"
        )
    passes_N = bundle.evidence.quality_N >= float(scale.to_quality(asked.pass_mos)) - _ROUNDING
    found = acceptance_threshold(bundle.evidence.predicted_N, passes_N, asked.precision, asked.confidence)
    quality = max(found.threshold, 0.0) if not math.isnan(found.threshold) else math.nan
    return PassThreshold(
        model=model,
        asked=asked,
        labelled=len(passes_N),
        passing=int(passes_N.sum()),
        acceptance=found,
        quality=quality,
        score=float(scale.to_mos(quality)),
        higher_is_better=scale.higher_is_better,
    )

"""An adapted model as a bundle that can be registered and scored with."""

from __future__ import annotations

from typing import Any

import numpy as np

from grmp_core.confidence.domain import has_domain
from grmp_core.confidence.evidence import Evidence
from grmp_core.learning.few_shot import AdaptResult
from grmp_core.learning.labelled_views import LabelledViews
from grmp_core.model.bundle import Bundle
from grmp_core.score_range import ScoreRange
from pipelines.configuration.schema import Config
from pipelines.runtime.provenance import versions


def adapted_bundle(
    config: Config,
    start: Bundle,
    result: AdaptResult,
    labelled: LabelledViews,
    score_range: ScoreRange,
    about: dict[str, Any],
) -> Bundle:
    """The adapted tensors, with the prompts that did not move, where they come from, and what `labelled`, the images
    that they were adapted to, say of their errors."""
    prompts = {name: tensor for name, tensor in start.parameters.items() if name not in result.parameters}
    return Bundle(
        kind="model",
        backbone=config.backbone.at_home(),
        backbone_sha256=start.backbone_sha256,
        prompts=start.prompts,
        views=config.views,
        precision=config.precision,
        parameters={**prompts, **result.parameters},
        head=config.adapt.head_config,
        colour_profiles=config.images.colour_profiles,
        score_range=score_range,
        metrics={"val_srcc": float(result.val_srcc)},
        provenance={
            "lambda": config.adapt.qgr.strength,
            **about,
            "epochs": result.epochs,
            "target": config.target.dataset,
            "pretraining": start.provenance,
            "seed": config.seed,
            "versions": versions(),
        },
        evidence=_evidence(start, result, labelled),
    )


def _evidence(start: Bundle, result: AdaptResult, labelled: LabelledViews) -> Evidence | None:
    """Null where a single fold left no held-out predictions."""
    if np.isnan(result.held_out_N).any():
        return None
    return Evidence.of(
        result.held_out_N,
        labelled.quality_N.cpu().numpy(),
        labelled.statistics_NF.cpu().numpy(),
        labelled.reference_ids,
        early_size=labelled.score_tokens_NGTD.shape[-1],
        deep=has_domain(start.backbone.name, start.backbone_sha256),
    )

"""An adapted model as a bundle that can be registered and scored with."""

from __future__ import annotations

from typing import Any

from grmp_core.learning.few_shot import AdaptResult
from grmp_core.model.bundle import Bundle
from grmp_core.score_range import ScoreRange
from pipelines.configuration.schema import Config
from pipelines.runtime.provenance import versions


def adapted_bundle(
    config: Config, start: Bundle, result: AdaptResult, score_range: ScoreRange, about: dict[str, Any]
) -> Bundle:
    """The adapted tensors, with the prompts that did not move, and where they come from."""
    prompts = {name: tensor for name, tensor in start.parameters.items() if name not in result.parameters}
    return Bundle(
        kind="model",
        backbone=config.backbone.at_home(),
        backbone_sha256=start.backbone_sha256,
        prompts=start.prompts,
        views=config.views,
        precision=config.precision,
        parameters={**prompts, **result.parameters},
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
    )

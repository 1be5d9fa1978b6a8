"""Quality of undamaged pictures, as the backbone scores them without a label: the ground of `overall` labels.

Its zero-shot score is what few-shot adaptation starts from. Labels that build on it teach prompts what damage costs,
and leave alone what the backbone thinks of pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.data import TaskPoolStrategy

from grmp_core.imaging.views import scoring_views, whole_grid
from pipelines.runtime.console import say
from pipelines.task_making.picture_sources import Reference, synthesizer_of

if TYPE_CHECKING:  # it brings torch, which a worker that makes pictures does without
    from grmp_core.model.backbone import Backbone
    from pipelines.configuration.schema import Config

_judges: dict[Any, Backbone] = {}
"""The one backbone of this process."""


def with_quality(config: Config, references: Sequence[Reference]) -> list[Reference]:
    """The references with their quality where `synthesize.labels` builds on it; unchanged for other labels."""
    if config.synthesize.labels != "overall" or any(reference.rated for reference in references):
        return list(references)
    say(f"synthesize: scoring {len(references)} undamaged pictures, which the labels build on")
    synthesizer = synthesizer_of(config)

    def score(row: dict[str, Any]) -> dict[str, Any]:
        from pipelines.runtime.computing import prepare_to_compute  # brings torch

        prepare_to_compute()
        return {**row, "quality": quality_of_picture(config, synthesizer.pristine(references[row["id"]]))}

    scored = ray.data.range(len(references)).map(score, compute=TaskPoolStrategy()).iter_rows()
    quality = {int(row["id"]): row["quality"] for row in scored}
    return [dataclasses.replace(reference, quality=quality[i]) for i, reference in enumerate(references)]


def quality_of_picture(config: Config, picture_HW3: np.ndarray) -> float:
    """Quality in [0, 1] that the backbone gives an undamaged picture, to the digits that every machine agrees on."""
    from grmp_core.model.zero_shot import no_label_quality

    judge = _judge(config)
    views = whole_grid(scoring_views(picture_HW3, config.views, judge.image_size_px), config.views)
    return round(no_label_quality(judge, views), 4)


def judge_digest(config: Config) -> str:
    """Names the backbone that scores undamaged pictures, by its weights."""
    return _judge(config).weights_sha256


def _judge(config: Config) -> Backbone:
    from grmp_core.model.backbone import load_backbone

    if config.backbone not in _judges:
        _judges.clear()
        _judges[config.backbone] = load_backbone(config.backbone)
    return _judges[config.backbone]

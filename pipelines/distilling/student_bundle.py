"""The bundle of a student that was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from grmp_core.distilling.student import PROMPTS
from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import srcc
from grmp_core.imaging.decoding import id_of_file
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import LEARNED_FROM, Bundle, load_predictor
from grmp_core.model.quality_model import Parameters
from grmp_core.score_range import ScoreRange
from pipelines.configuration.schema import Config
from pipelines.distilling.image_views import ViewPlan, ViewReader
from pipelines.distilling.teacher_scores import ScoredImages
from pipelines.distilling.teachers import TeacherSource
from pipelines.distilling.training_loop import Lesson
from pipelines.runtime.provenance import versions
from pipelines.scoring.image_tables import ImageInput


def scale_of(source: TeacherSource, scored: ScoredImages) -> ScoreRange:
    """From the teacher's scores to quality: a bundle gives quality; a plug-in's scale is the range that it has used."""
    if source.bundle is not None:
        return ScoreRange(mos_min=0, mos_max=1)
    low, high = float(scored.scores_NV.min()), float(scored.scores_NV.max())
    if low == high:
        raise InputError(f"teacher {source.name} gave all {len(scored.images)} images the score {low:g}; see to it")
    return ScoreRange(mos_min=low, mos_max=high)


def student_bundle(
    config: Config,
    source: TeacherSource,
    backbone: Backbone,
    learned: Parameters,
    scale: ScoreRange,
    lesson: Lesson,
) -> Bundle:
    teacher, plan = source.bundle, lesson.plan
    made = teacher.provenance if teacher is not None else {}
    own = [id_of_file(image.path) for image in lesson.labelled]
    seen = {name for name in (*own, *made.get(LEARNED_FROM, ())) if name is not None}
    about: dict[str, Any] = {name: made[name] for name in ("target", "pretraining") if name in made}
    if lesson.labelled:
        about["target"] = config.target.dataset
    return Bundle(
        kind="model",
        backbone=lesson.student,
        backbone_sha256=backbone.weights_sha256,
        prompts=PROMPTS,
        views=plan.views,
        precision=config.precision if teacher is None else teacher.precision,
        parameters=learned,
        colour_profiles=plan.limits.colour_profiles,
        score_range=scale if teacher is None else teacher.score_range,
        provenance={
            **about,
            "teacher": source.record(),
            LEARNED_FROM: sorted(seen),
            "unlabelled_images": len(lesson.images),
            "label_weight": lesson.label_weight,
            "steps": config.distil.steps,
            "seed": config.seed,
            "versions": versions(),
        },
    )


def agreement_of(bundle: Bundle, images: tuple[ImageInput, ...], quality_NV: np.ndarray, plan: ViewPlan) -> float:
    """SRCC of the student's and the teacher's mean quality of the views of each image."""
    if len(images) < 3:
        return float("nan")
    predictor, reader = load_predictor(bundle, "student"), ViewReader(plan)
    predicted = [float(predictor(torch.from_numpy(reader.views_of(image))).mean()) for image in images]
    return float(srcc(np.array(predicted), quality_NV.mean(axis=1)))

"""Distillation: the teacher scores images without labels, a student learns from the scores and becomes a bundle."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from grmp_core.distilling.student import check_smaller, new_student, tower_size
from grmp_core.errors import ImageError, InputError
from grmp_core.identity import Identity, digest_of
from grmp_core.imaging.decoding import id_of_file
from grmp_core.imaging.listing import NotTaken
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.bundle import write_bundle
from grmp_core.model.nano_trunk import SIZES
from grmp_core.model.settings import BackboneConfig
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.distilling.image_views import ViewPlan, ViewReader
from pipelines.distilling.student_bundle import agreement_of, scale_of, student_bundle
from pipelines.distilling.teacher_scores import ScoredImages, scored_images
from pipelines.distilling.teachers import TeacherSource, find_teacher
from pipelines.distilling.training_loop import Lesson, learn_here, say_where, worker
from pipelines.few_shot.labelled_target import bad_rows, check_rejects, has_target, load_target
from pipelines.runtime.computing import device_here
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.inputs import find_images
from pipelines.tracking.run_records import TEACHER, UNLABELLED
from pipelines.tracking.system_metrics import system_metrics
from pipelines.tracking.tracker import open_tracking
from pipelines.training.checkpoints import read_checkpoint, state_folder
from pipelines.training.workers import require_workers, train_on_workers

HELD_OUT_SHARE, MOST_HELD_OUT = 0.1, 200
"""Images that the student does not learn from: they show how well it imitates."""


@dataclass(frozen=True)
class Distillation:
    """Result of `grmp distil`."""

    bundle: str
    images: int
    labels: int
    parameters: int
    teacher_parameters: int | None
    teacher_srcc: float
    """SRCC of student and teacher on held-out images; NaN where there are too few."""
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def as_text(self) -> str:
        row = {
            "images": self.images,
            "labels": self.labels,
            "parameters": self.parameters,
            "of the teacher": self.teacher_parameters or "unknown",
            "SRCC with the teacher": self.teacher_srcc,
            "seconds": round(self.seconds),
        }
        return f"{table([row])}\n{self.bundle}"


class Labelled(NamedTuple):
    """Images with human scores."""

    images: tuple[ImageInput, ...]
    quality_M: np.ndarray
    """In [0, 1]."""
    left_out: tuple[dict[str, str], ...]
    """Path and reason of the rows that are left out."""
    fingerprint: str | None = None
    """Of the whole label table; null without one."""


def distil_student(config: Config) -> Distillation:
    """Write the bundle `<output>/distil/<student>/bundle`. An interrupted run goes on where it was.

    InputError for no teacher, no images, a teacher that fails, a student larger than its teacher, and a GPU that this
    process is to compute on and does not see.
    """
    started = time.time()
    if not config.distil.images:
        raise InputError("no images to learn from: name some without labels (grmp distil folder/ --teacher …)")
    if config.distil.workers == 0:
        for section in ("distil", "score"):
            device_here(getattr(config, section).gpus_per_worker, f"{section}.gpus_per_worker", "distil.workers")
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    source = find_teacher(config)
    backbone = load_student(config, source)
    plan = view_plan(config, source, backbone)
    labelled = labelled_images(config, plan)
    inputs = find_images(config.distil.images)
    with ray_session() if config.distil.workers else nullcontext():
        scored = scored_images(config, source, inputs.images, plan, output_folder(config, "distil") / "teacher-scores")
        result = teach(config, source, scored, labelled, plan, started, not_taken=inputs.not_taken)
    tracking.log("distil", locate(result.bundle).parent)
    return result


def teach(
    config: Config,
    source: TeacherSource,
    scored: ScoredImages,
    labelled: Labelled,
    plan: ViewPlan,
    started: float,
    not_taken: Sequence[NotTaken] = (),
) -> Distillation:
    """Train the student of the configuration on scored images, and write its bundle."""
    backbone = load_student(config, source)
    folder = output_folder(config, "distil") / backbone.config.name.replace("/", "-")
    scale = scale_of(source, scored)
    quality_NV = np.asarray(scale.to_quality(scored.scores_NV))
    held_out = min(int(HELD_OUT_SHARE * len(scored.images)), MOST_HELD_OUT)
    lesson = Lesson(
        images=scored.images[held_out:],  # sorted by content, which is as good as any order
        quality_NV=quality_NV[held_out:],
        labelled=labelled.images,
        labels_M=labelled.quality_M,
        label_weight=config.distil.label_weight if labelled.images else 0.0,
        plan=plan,
        student=backbone.config,
    )
    identity = distilling_identity(config, source, backbone, scored, lesson)
    with system_metrics(config, folder, identity.digest):
        state = _trained(config, lesson, identity, folder)
    bundle = student_bundle(config, source, backbone, state["learned"], scale, lesson)
    agreement = agreement_of(bundle, scored.images[:held_out], quality_NV[:held_out], plan)
    bundle = dataclasses.replace(bundle, metrics={"teacher_srcc": agreement})
    write_bundle(folder / "bundle", bundle)
    (folder / "history.json").write_json({"history": state["history"]})
    counts = {"images": len(lesson.images), "held_out": held_out, "labels": len(labelled.images)}
    write_manifest(
        folder,
        "distil",
        config,
        started,
        inputs=_inputs(source, identity, scored, labelled),
        counts=counts | {"steps": state["step"], "scored_before": scored.scored_before, "teacher_srcc": agreement},
        rejected=(*scored.rejected, *labelled.left_out),
        not_taken=[left.as_row() for left in not_taken],
    )
    sizes = (tower_size(backbone), source.size)
    seconds = time.time() - started
    return Distillation((folder / "bundle").uri, len(lesson.images), len(labelled.images), *sizes, agreement, seconds)


def _inputs(source: TeacherSource, identity: Identity, scored: ScoredImages, labelled: Labelled) -> dict[str, Any]:
    inputs: dict[str, Any] = {"identity": identity.digest, "teacher": source.identity}
    inputs[UNLABELLED] = digest_of(*scored.image_ids)
    if source.bundle is not None:
        inputs[TEACHER] = source.bundle.digest
    if labelled.fingerprint is not None:
        inputs["target"] = labelled.fingerprint
    return inputs


def _trained(config: Config, lesson: Lesson, identity: Identity, folder: Location) -> dict[str, Any]:
    """The last checkpoint of the training, which goes on where it was."""
    settings = config.distil
    kept = state_folder(folder / "state", identity, "distil")
    reached = read_checkpoint(kept)
    if reached is not None and reached["step"] >= settings.steps:
        say_where(reached)
        return reached
    arguments = {"config": config, "lesson": lesson, "kept": kept.uri}
    if settings.workers == 0:
        learn_here(arguments)
    else:
        require_workers(settings, config.wait_for_nodes_s, "distil")
        train_on_workers(worker, arguments, settings, folder / "train" / f"{identity.digest}-{time.time_ns()}")
    reached = read_checkpoint(kept)
    if reached is None:
        raise RuntimeError(f"distillation ended without a checkpoint in {kept.uri}")
    return reached


def load_student(config: Config, source: TeacherSource) -> Backbone:
    """The student before its training. InputError where it cannot be had, has no text tower to read it, or is larger
    than the teacher."""
    backbone = load_backbone(student_backbone(config))
    check_smaller(tower_size(backbone), source.size, (backbone.config.name, source.name))
    new_student(backbone, config.precision)
    return backbone


def student_backbone(config: Config) -> BackboneConfig:
    """The backbone that the student starts from."""
    name, weights = config.distil.student, config.distil.weights
    if weights is None and name not in SIZES:
        raise InputError(f"distil.student {name} has no weights to start from: set distil.weights to a tag or a file")
    if weights is not None and os.path.isfile(weights):
        return BackboneConfig(name=name, checkpoint=weights).at_home()
    return BackboneConfig(name=name, pretrained=weights)


def view_plan(config: Config, source: TeacherSource, backbone: Backbone) -> ViewPlan:
    """Views as the teacher's bundle has them, or of the configuration for a plug-in; at the student's input size."""
    views, limits = config.views, config.images
    if source.bundle is not None:
        views = dataclasses.replace(source.bundle.views, train_views=config.views.train_views)
        limits = dataclasses.replace(limits, colour_profiles=source.bundle.colour_profiles)
    return ViewPlan(views=views, size_px=backbone.image_size_px, seed=config.seed, limits=limits)


def labelled_images(config: Config, plan: ViewPlan) -> Labelled:
    """The images of the target; none without one. InputError as of `load_target` and `check_rejects`."""
    if not has_target(config.target) or config.distil.label_weight == 0:
        return Labelled((), np.empty(0), ())
    target, reader = load_target(config.target), ViewReader(plan)
    kept, unreadable = list[int](), list[dict[str, str]]()
    for row, path in enumerate(target.image_paths):
        try:
            reader.views_of(ImageInput.file(path))
            kept.append(row)
        except ImageError as error:
            unreadable.append({"path": path, "reason": error.reason})
    check_rejects(config.target, len(target), unreadable, bad_rows(target))
    images = tuple(ImageInput.file(target.image_paths[row]) for row in kept)
    return Labelled(images, target.quality[kept], (*bad_rows(target), *unreadable), target.fingerprint())


def distilling_identity(
    config: Config, source: TeacherSource, backbone: Backbone, scored: ScoredImages, lesson: Lesson
) -> Identity:
    """Every setting and input that decides about the student. The number of workers and where files lie are none."""
    names = ("steps", "groups_per_step", "images_per_group", "lr")
    parts = {f"distil.{name}": getattr(config.distil, name) for name in names}
    pairs = zip(lesson.labelled, lesson.labels_M.tolist(), strict=True)
    labels = [(id_of_file(image.path), label) for image, label in pairs]
    data = digest_of(list(scored.image_ids), scored.scores_NV.tobytes(), labels)
    about: dict[str, object] = {
        "backbone.sha256": backbone.weights_sha256,
        "student": lesson.student.name,
        "data": data,
    }
    about |= {"seed": config.seed, "precision": config.precision, "label_weight": lesson.label_weight}
    return Identity.of(parts | about | {"teacher": source.identity})

"""Section of distillation: a small student of a large teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings, Text


@dataclass(frozen=True, kw_only=True)
class DistilConfig(Settings):
    """A student that learns a teacher's scores on images without labels."""

    teacher: PathText | None = None
    """A bundle's folder, an MLflow model (`models:/name@alias`), or the name of a plug-in (entry-point group
    grmp.teachers)."""
    student: Text = "grmp-nano-xs"
    """The student's backbone: grmp-nano-s, grmp-nano-xs or grmp-nano-xxs, which are cut out of grmp-nano, or any
    open_clip model with distil.weights. Its image tower learns; its text tower only reads it."""
    weights: PathText | None = None
    """open_clip's tag, or a local weights file, that the student starts from; null for those cut out of grmp-nano."""
    images: tuple[PathText, ...] = ()
    """The images without labels: files, folders, globs, tables, s3://…, as score.images has them."""
    label_weight: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Share of the loss that is about the labels of the target: the order of their images. Without a target 0."""
    steps: Annotated[int, Ge(1)] = 2000
    """Training steps."""
    groups_per_step: Annotated[int, Ge(1)] = 2
    """Groups of images a step. Images are ranked within their group, and workers share the groups."""
    images_per_group: Annotated[int, Ge(1)] = 8
    """Images of a group, each with views.train_views views, which the teacher has scored one by one."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Learning rate of AdamW, which warms up and then falls to 0."""
    workers: Annotated[int, Ge(0)] = 1
    """Ray Train workers; the teacher scores on score.workers of Ray Data. 0: all in this process, without Ray. The
    result does not depend on it."""
    min_workers: Annotated[int, Ge(0)] = 0
    """Go on with as few as this when nodes die, and with more again when they come back; 0: always `workers`."""
    cpus_per_worker: Annotated[float, Gt(0)] = 1
    """CPUs of a worker, and its threads, also those that read images; with `workers: 0` of this process."""
    gpus_per_worker: Annotated[float, Ge(0)] = 0
    """GPUs of a worker; 0: it computes on CPUs."""
    checkpoint_every: Annotated[int, Ge(1)] = 100
    """Steps between two checkpoints."""
    max_failures: Annotated[int, Ge(0)] = 3
    """Worker failures that are survived by going back to the last checkpoint."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_workers > self.workers:
            raise InputError(f"distil.min_workers {self.min_workers}: use 0 to distil.workers ({self.workers})")
        if self.workers > self.groups_per_step:
            raise InputError(
                f"distil.workers {self.workers} is more than distil.groups_per_step ({self.groups_per_step}), which "
                "they share; lower it, or raise distil.groups_per_step"
            )

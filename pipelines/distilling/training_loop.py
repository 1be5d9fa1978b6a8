"""Training steps of a student in this process or on Ray Train workers, with a checkpoint every few steps."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray.train
import torch
from torch import Tensor

from grmp_core.distilling.losses import imitation_loss, pair_loss
from grmp_core.distilling.student import Learner, new_student, predicted_quality
from grmp_core.errors import ImageError, InputError
from grmp_core.model.backbone import load_backbone
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.model.settings import BackboneConfig
from grmp_core.seeds import generator_of
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.distilling.image_views import ViewPlan, ViewReader
from pipelines.runtime.computing import device_here, prepare_to_compute
from pipelines.runtime.console import say
from pipelines.runtime.progress import Progress
from pipelines.scoring.image_tables import ImageInput
from pipelines.training.checkpoints import CheckpointWriter, read_checkpoint, write_checkpoint
from pipelines.training.workers import Reduce, SpotWarning, alone, check_same_step, reduction

LABELS_OF_A_GROUP = 4
"""Labelled images that are ranked beside a group, one view each."""
_STEPS_OF_A_RECORD = 20
"""Steps whose mean losses are one record of the history."""
History = list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """All that the student learns from. N images, V views, M labelled images."""

    images: tuple[ImageInput, ...]
    quality_NV: np.ndarray
    """The teacher's scores, as quality in [0, 1]."""
    labelled: tuple[ImageInput, ...]
    labels_M: np.ndarray
    """Human quality in [0, 1]."""
    label_weight: float
    """Share of the loss that is about the labels."""
    plan: ViewPlan
    student: BackboneConfig


@dataclass(frozen=True, kw_only=True)
class Group:
    """Images that are ranked against one another in a step. B views, L labelled views."""

    views_BHW3: Tensor
    quality_B: Tensor
    labelled_LHW3: Tensor
    labels_L: Tensor


def image_numbers(number: int, count: int, per_group: int, seed: int) -> list[int]:
    """The images of group `number`: those of a run through all in an order drawn anew for every pass."""
    places = range(number * per_group, (number + 1) * per_group)
    passes = range(places[0] // count, places[-1] // count + 1)
    orders = {p: generator_of("distil", seed, p).permutation(count) for p in passes}
    return [int(orders[place // count][place % count]) for place in places]


class Groups:
    """Makes groups, the next ones while one is learned from, with a thread a CPU."""

    def __init__(self, lesson: Lesson, config: Config) -> None:
        self.lesson, self.config = lesson, config
        self.threads = max(1, int(config.distil.cpus_per_worker))
        self._of_thread = threading.local()  # a reader keeps a file open, so threads do not share one
        self._of_label: dict[int, np.ndarray] = {}

    def in_order(self, numbers: Iterator[int]) -> Iterator[Group]:
        with ThreadPoolExecutor(self.threads) as pool:
            ahead = itertools.islice(numbers, self.threads + 1)
            waiting = deque(pool.submit(self.make, number) for number in ahead)
            while waiting:
                group = waiting.popleft().result()
                waiting.extend(pool.submit(self.make, number) for number in itertools.islice(numbers, 1))
                yield group

    def make(self, number: int) -> Group:
        lesson, settings = self.lesson, self.config.distil
        chosen = image_numbers(number, len(lesson.images), settings.images_per_group, self.config.seed)
        views_BHW3 = torch.from_numpy(np.concatenate([self._views(lesson.images[i]) for i in chosen]))
        rng = generator_of("distil labels", self.config.seed, number)
        drawn = rng.permutation(len(lesson.labelled))[:LABELS_OF_A_GROUP]
        labelled = [rng.choice(self._labelled_views(i)) for i in drawn]
        return Group(
            views_BHW3=views_BHW3,
            quality_B=torch.from_numpy(lesson.quality_NV[chosen].reshape(-1).astype(np.float32)),
            labelled_LHW3=torch.from_numpy(np.stack(labelled)) if labelled else views_BHW3[:0],
            labels_L=torch.from_numpy(lesson.labels_M[drawn].astype(np.float32)),
        )

    def _labelled_views(self, i: int) -> np.ndarray:
        """Kept: labels are few, and come back every few steps."""
        if i not in self._of_label:
            self._of_label[i] = self._views(self.lesson.labelled[i])
        return self._of_label[i]

    def _views(self, image: ImageInput) -> np.ndarray:
        try:
            return self._reader().views_of(image)
        except ImageError as error:
            raise InputError(
                f"{image.name} could be read when the teacher scored it, and no more: {error.reason}; put it back and "
                "run the same command again, which goes on where it was"
            ) from error

    def _reader(self) -> ViewReader:
        if not hasattr(self._of_thread, "reader"):
            self._of_thread.reader = ViewReader(self.lesson.plan)
        reader: ViewReader = self._of_thread.reader
        return reader


def group_loss(model: QualityModel, learned: Parameters, group: Group, lesson: Lesson, variance: float) -> Tensor:
    """Imitation of the teacher and order of the labels, by `label_weight`; one pass of the tower serves both."""
    device = model.device
    views = torch.cat([group.views_BHW3, group.labelled_LHW3]).to(device)
    teacher_B, labels_L = group.quality_B.to(device), group.labels_L.to(device)
    predicted = predicted_quality(model, learned, views)
    imitated = imitation_loss(predicted[: len(teacher_B)], teacher_B, variance)
    ranked = pair_loss(predicted[len(teacher_B) :], labels_L)
    return (1 - lesson.label_weight) * imitated + lesson.label_weight * ranked


def learn(
    config: Config,
    lesson: Lesson,
    device: torch.device,
    restored: dict[str, Any] | None,
    save: Callable[[int, dict[str, Any]], None],
    *,
    rank: int = 0,
    world_size: int = 1,
    reduce: Reduce = alone,
    must_save: Callable[[], bool] = lambda: False,
) -> tuple[Parameters, History]:
    """The loop of one worker, free of Ray Train. All workers return the same tensors.

    Args:
        restored: a checkpoint's content; null begins anew.
        save: called by every worker after every `checkpoint_every` steps and after the last.
        must_save: asked by every worker after every step; the same answer on all makes one checkpoint more.
    """
    settings = config.distil
    prepare_to_compute(settings.cpus_per_worker)
    model, learned = new_student(load_backbone(lesson.student), config.precision)
    model = model.to(device)
    begun: dict[str, Any] = restored or {"step": 0, "learned": learned, "optimizer": None, "history": [], "recent": []}
    learned = {name: tensor.to(device) for name, tensor in begun["learned"].items()}
    learner = Learner(learned, settings.lr, settings.steps)
    if begun["optimizer"] is not None:
        learner.optimizer.load_state_dict(begun["optimizer"])
    history, recent = list(begun["history"]), list(begun["recent"])
    variance = max(float(lesson.quality_NV.var()), 1e-6)
    mine = [g for g in range(settings.groups_per_step) if g % world_size == rank]
    steps = range(begun["step"], settings.steps)
    groups = Groups(lesson, config).in_order(step * settings.groups_per_step + g for step in steps for g in mine)
    with Progress("distil", settings.steps, "step", start=steps.start, shown=rank == 0) as progress:
        for step in steps:
            # float64: neither the order of groups nor their spread over workers shows
            flat = torch.zeros(sum(t.numel() for t in learned.values()) + 1, dtype=torch.float64, device=device)
            for _ in mine:
                loss = group_loss(model, learned, next(groups), lesson, variance)
                flat += torch.cat([learner.flat_gradient(loss), loss.detach()[None]])
            reduce(flat)
            flat /= settings.groups_per_step
            learner.step(step, flat[:-1].float())
            recent.append(float(flat[-1]))
            done = step + 1
            if done % _STEPS_OF_A_RECORD == 0 or done == settings.steps:
                history.append({"step": float(done), "loss": float(np.mean(recent))})
                recent = []
            progress.to(done, f"loss {history[-1]['loss']:.4f}" if history else "")
            if must_save() or done % settings.checkpoint_every == 0 or done == settings.steps:
                content = {"learned": learner.tensors(), "optimizer": learner.optimizer.state_dict()}
                save(done, {**content, "history": history, "recent": recent})
    return learner.tensors(), history


def learn_here(arguments: dict[str, Any]) -> None:
    config, kept = arguments["config"], locate(arguments["kept"])
    device = device_here(config.distil.gpus_per_worker, "distil.gpus_per_worker", "distil.workers")
    restored = read_checkpoint(kept)
    say_where(restored)
    with CheckpointWriter(lambda step, content: write_checkpoint(kept, step, content)) as writer:
        learn(config, arguments["lesson"], device, restored, writer.write)


def worker(arguments: dict[str, Any]) -> None:
    """The train loop of Ray Train."""
    config, kept = arguments["config"], locate(arguments["kept"])
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    logging.getLogger().setLevel(logging.WARNING)
    rank, world_size = context.get_world_rank(), context.get_world_size()
    reduce = reduction(world_size)
    restored = read_checkpoint(kept)
    check_same_step(restored["step"] if restored else 0, world_size, reduce, device)
    if rank == 0:
        say_where(restored)

    with CheckpointWriter(lambda step, content: write_checkpoint(kept, step, content)) as writer:
        learn(
            config,
            arguments["lesson"],
            device,
            restored,
            writer.write if rank == 0 else lambda step, content: None,
            rank=rank,
            world_size=world_size,
            reduce=reduce,
            must_save=SpotWarning("distil"),
        )


def say_where(restored: dict[str, Any] | None) -> None:
    if restored is not None:
        say(f"distil: goes on after step {restored['step']}")

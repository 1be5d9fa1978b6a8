"""The trials of an ablation and the hours they take, before any of them runs."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import image_bytes, read_image
from grmp_core.imaging.views import scoring_views, training_views, whole_grid
from grmp_core.learning.few_shot import AdaptConfig, predict_quality, train
from grmp_core.learning.labelled_views import LabelledViews, prepare_views
from grmp_core.model.quality_model import Parameters, QualityModel
from pipelines.ablation.arms import SweepArms
from pipelines.configuration.sweeping import ArmConfig
from pipelines.few_shot.starting_model import adapting_model
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.results.trial import Trial
from pipelines.runtime.console import table
from pipelines.sweeping.grid import plan_trials

_TIMED_IMAGES = 4


@dataclass(frozen=True)
class Plan:
    """Result of `grmp ablate --plan`."""

    rows: tuple[dict[str, Any], ...]
    """One a sweep: its arms, trials, and hours of one CPU."""

    @property
    def hours(self) -> float:
        return sum(row["CPU hours"] for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        return {"sweeps": list(self.rows), "cpu_hours": self.hours}

    def as_text(self) -> str:
        trials = sum(row["trials"] for row in self.rows)
        shown = [{**row, "CPU hours": f"{row['CPU hours']:.2f}"} for row in self.rows]
        return (
            f"{table(shown)}\n{trials} trials, {self.hours:.1f} hours of one CPU as timed here; finished ones are kept"
        )


def plan_ablation(target: LabelledSet, arms: Mapping[str, ArmConfig], sweeps: Sequence[SweepArms]) -> Plan:
    """Count the trials, and time a step of each sweep on a few images of the target. InputError as of the sweeps."""
    rows = []
    if baselines := [name for name, arm in arms.items() if not arm.adapts]:
        rows.append({"arms": ", ".join(baselines), "trials": 0, "CPU hours": 0.0})
    for sweep in sweeps:
        trials = plan_trials(sweep.config, target_protocol(sweep.config, target))
        seconds = _seconds(sweep, target, trials)
        rows.append({"arms": ", ".join(sweep.methods), "trials": len(trials), "CPU hours": seconds / 3600})
    return Plan(tuple(rows))


def _seconds(sweep: SweepArms, target: LabelledSet, trials: Sequence[Trial]) -> float:
    """Of one CPU: encoding the target, and every trial's steps, validations and test scores."""
    config = sweep.config
    model = adapting_model(config, sweep.start, torch.device("cpu"))
    encode_s, views = _timed(lambda: _encode_some(sweep, target, model))
    per_image_s = encode_s / len(views)
    start = model.adaptable_parameters(sweep.start.parameters)
    score_s = _timed(lambda: predict_quality(model, start, views.score_tokens_NGTD))[0] / len(views)
    batch = views.subset(np.arange(config.adapt.batch_size) % len(views))
    total = per_image_s * len(target)
    for strength in sorted({trial.strength for trial in trials}):
        adapt = dataclasses.replace(config.adapt, qgr=dataclasses.replace(config.adapt.qgr, strength=strength))
        step_s, _ = _timed(functools.partial(_one_epoch, model, start, batch, adapt))
        for trial in (one for one in trials if one.strength == strength):
            tested = config.test_share * len(target)
            total += _steps(adapt, trial.shots) * step_s
            total += score_s * (tested + trial.shots * math.ceil(adapt.epochs / adapt.eval_every))
    return total


def _one_epoch(model: QualityModel, start: Parameters, batch: LabelledViews, config: AdaptConfig) -> None:
    next(train(model, start, batch, config, seed=0, epochs=1))


def _steps(config: AdaptConfig, shots: int) -> float:
    """Steps of a trial: of each fold on its part of the labels, and of the final run on all, at most."""
    held_out = config.holdout if config.folds == 1 else 1 / config.folds
    steps_of_folds = config.folds * math.ceil((1 - held_out) * shots / config.batch_size)
    return config.epochs * (steps_of_folds + math.ceil(shots / config.batch_size))


def _encode_some(sweep: SweepArms, target: LabelledSet, model: QualityModel) -> LabelledViews:
    config, parts = sweep.config, []
    for path in target.image_paths:
        try:
            image = read_image(image_bytes(path), config.images)
        except ImageError:  # the run itself will list it
            continue
        train_views = training_views(image, config.views, model.image_size_px, config.seed, path)
        score_views = whole_grid(scoring_views(image, config.views, model.image_size_px), config.views)
        parts.append((train_views, score_views))
        if len(parts) == _TIMED_IMAGES:
            break
    if not parts:
        raise InputError(f"none of the {len(target)} target images can be read")
    train_NVHWC, score_NGHWC = (np.stack(column) for column in zip(*parts, strict=True))
    quality, ids = np.linspace(0.2, 0.8, len(parts)), [str(i) for i in range(len(parts))]
    return prepare_views(model, sweep.start.parameters, train_NVHWC, score_NGHWC, quality, ids)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """-> (CPU seconds, result) of a second call: the first one also warms kernels up. Other processes do not count."""
    work()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # waiting threads would count as work
    try:
        began = time.process_time()
        result = work()
        return time.process_time() - began, result
    finally:
        torch.set_num_threads(threads)

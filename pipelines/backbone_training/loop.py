"""The training loop of grmp-nano: batches from DataLoader workers, one process or several, resumed at will.

`OUT/checkpoint.pt` is written every few minutes and the same command goes on from it; `OUT/weights.safetensors` holds
the averaged weights so far in half precision, `OUT/training.json` how they came about.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.utils.data import DataLoader

from grmp_core.errors import InputError
from grmp_core.model.backbone import dtype_of
from grmp_core.model.settings import EMBEDDED
from grmp_core.nano.crops import Batch, CropBatches, CropConfig
from grmp_core.nano.material import RATED, Material, read_material
from grmp_core.nano.sentences import HELD_OUT_TYPES, remembering, used_tokens
from grmp_core.nano.teacher import read_start_weights
from grmp_core.nano.trainable_clip import TrainableClip
from grmp_core.nano.trainer import TrainConfig, Trainer
from grmp_core.strict_json import json_text
from pipelines.backbone_training.measurements import quick_validation
from pipelines.backbone_training.run_config import PATHS, RunConfig

log = logging.getLogger("grmp.backbone")
_ENDLESS = 10**9
_STANDARDIZING_BATCHES = 4
_TRIPLETS = 4  # a batch of 48 crops, where they have a weight


@dataclass
class Clock:
    """Progress of the run in [0,1], by steps where they are given, else by the time spent in this and earlier runs."""

    steps: int | None
    minutes: float
    spent_s: float = 0.0
    started_s: float = 0.0

    def elapsed_s(self) -> float:
        return self.spent_s + time.monotonic() - self.started_s

    def progress(self, step: int) -> float:
        return step / self.steps if self.steps else self.elapsed_s() / (60 * self.minutes)


def train(config: RunConfig, crop_config: CropConfig = CropConfig()) -> None:  # noqa: B008  # frozen
    """Train until the clock says so, as one process or as one of an initialized process group."""
    torch.set_num_threads(config.threads)
    _commit()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    material = read_material(Path(config.material))
    crop_config = replace(crop_config, triplets=_TRIPLETS if config.triplet_weight > 0 else 0)
    crop_config = crop_config.times(config.batches_per_step)
    crops = CropBatches(material.store, material.content, material.training, crop_config, config.seed, _ENDLESS)
    trainer = make_trainer(config, material, crops, world)
    clock = Clock(config.steps, config.minutes)
    if (out / "checkpoint.pt").exists():
        clock.spent_s = load_checkpoint(out / "checkpoint.pt", trainer, config)
        log.info("resumed at step %d after %.1f minutes", trainer.step, clock.spent_s / 60)
    if (agreed := _agreed(trainer.step)) != trainer.step:
        raise RuntimeError(f"this process is at step {trainer.step}, all at {agreed} on average: not one checkpoint")
    batches = iter(_loader(crops, trainer.step * world + rank, world, config.workers))
    clock.started_s = time.monotonic()
    _run(trainer, batches, clock, config, material, crop_config, rank)


def make_trainer(config: RunConfig, material: Material, crops: CropBatches, world: int = 1) -> Trainer:
    """A trainer at step 0: with pretrained convolutions, or going on from exported weights."""
    tokenize = open_clip.get_tokenizer(EMBEDDED)
    tokens = used_tokens(tokenize, material.class_words)
    start = read_start_weights(config.start_weights) if config.start_weights else None
    if start is None and config.start_from is None:
        raise InputError("nothing to start from: give --start-weights or --start-from")
    model = TrainableClip(tokens, start, config.seed)
    if config.start_from:
        if not Path(config.start_from).is_file():
            raise InputError(f"--start-from '{config.start_from}' does not exist; give the path of exported weights")
        model.load_exported(load_file(config.start_from))
    else:
        images = torch.cat([crops[_ENDLESS - 1 - i].images_BHWC for i in range(_STANDARDIZING_BATCHES)])
        model.standardize_stem(images)
    settings = TrainConfig(
        learning_rate=config.learning_rate,
        stem_rate=config.stem_rate,
        filter_every=config.filter_every,
        triplet_weight=config.triplet_weight,
        head_start_steps=0 if config.start_from else TrainConfig.head_start_steps,
    )
    average = _mean_of_workers if world > 1 else None
    model.to(device_of(config.device))
    words = material.class_words
    return Trainer(model, words, remembering(tokenize), settings, config.seed, dtype_of(config.precision), average)


def save(trainer: Trainer, clock: Clock, config: RunConfig, record: dict[str, object]) -> None:
    """Checkpoint, export and record, each written whole or not at all."""
    out = Path(config.out)
    content = {"trainer": trainer.state_dict(), "spent_s": clock.elapsed_s(), "recipe": recipe_of(config)}
    torch.save(content, out / "checkpoint.pt.tmp")
    os.replace(out / "checkpoint.pt.tmp", out / "checkpoint.pt")
    save_file(trainer.averaged_model().export_state(), out / "weights.safetensors.tmp")
    os.replace(out / "weights.safetensors.tmp", out / "weights.safetensors")
    (out / "training.json.tmp").write_text(json_text(record, indent=2) + "\n")
    os.replace(out / "training.json.tmp", out / "training.json")
    log.info("step %d saved in %s", trainer.step, out)


def load_checkpoint(path: Path, trainer: Trainer, config: RunConfig) -> float:
    """Put a checkpoint into the trainer; -> seconds spent on it. InputError when another recipe made it."""
    content = torch.load(path, map_location=trainer.device, weights_only=True)
    made, ours = {"triplet_weight": 0.0, **content["recipe"]}, recipe_of(config)  # one from before there were triplets
    other = [f"{name} {made.get(name)}" for name in ours if made.get(name) != ours[name]]
    if other:
        raise InputError(f"{path} was made with {', '.join(other)}; give the same again, or another --out")
    trainer.load_state_dict(content["trainer"])
    return float(content["spent_s"])


def recipe_of(config: RunConfig) -> dict[str, object]:
    """The options that decide about the weights, but for the length of the run."""
    names = ("seed", "precision", "batches_per_step", "filter_every", "learning_rate", "stem_rate", "triplet_weight")
    start = hashlib.sha256(Path(config.start_from).read_bytes()).hexdigest()[:12] if config.start_from else None
    return {"start_from": start, **{name: getattr(config, name) for name in names}}


def record_of(
    trainer: Trainer, clock: Clock, config: RunConfig, material: Material, crops: CropConfig, world: int
) -> dict[str, object]:
    """`training.json`: how the weights came about, and what was held out."""
    rows = material.store.rows
    kept = {source: len(material.validation(source)) for source in sorted({row.source for row in rows})}
    return {
        "commit": _commit(),
        "run": {name: Path(v).name if name in PATHS and v else v for name, v in asdict(config).items()},
        "train_config": asdict(trainer.config),
        "crop_config": asdict(crops),
        "steps": trainer.step,
        "crops": trainer.step * world * (crops.rated + crops.distorted + crops.pristine + 3 * crops.triplets),
        "hours": round(clock.elapsed_s() / 3600, 3),
        "training_processes": world,
        "machine": _machine(trainer.device),
        "torch": torch.__version__,
        "photos": len(rows),
        "held_out_photos": kept,
        "held_out_rule": "groups of neighbours whose smallest content hash is divisible by 10",
        "held_out_types": list(HELD_OUT_TYPES),
    }


def _run(
    trainer: Trainer,
    batches: Iterator[Batch],
    clock: Clock,
    config: RunConfig,
    material: Material,
    crop_config: CropConfig,
    rank: int,
) -> None:
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    validation = material.validation(RATED)
    recent: list[dict[str, float]] = []
    waited_s, since_s, saved_s = 0.0, time.monotonic(), clock.elapsed_s()

    def keep() -> None:
        record = record_of(trainer, clock, config, material, crop_config, world)
        record["validation"] = quick_validation(trainer.averaged_model(), material, validation)
        log.info("validation %s", record["validation"])
        save(trainer, clock, config, record)

    while (progress := _agreed(clock.progress(trainer.step))) < 1:
        asked_s = time.monotonic()
        batch = next(batches)
        waited_s += time.monotonic() - asked_s
        recent.append(trainer.train_step(batch, progress))
        if rank == 0 and trainer.step % 25 == 0:
            pace = len(recent) * world * len(batch.images_BHWC) / (time.monotonic() - since_s)
            means = {name: round(float(np.mean([losses[name] for losses in recent])), 3) for name in recent[0]}
            shown = (trainer.step, 100 * progress, pace, waited_s, means)
            log.info("step %d %.1f%%, %.0f images/s, waited %.0f s: %s", *shown)
            recent, waited_s, since_s = [], 0.0, time.monotonic()
        if rank == 0 and clock.elapsed_s() - saved_s > 60 * config.checkpoint_minutes:
            keep()
            saved_s, since_s = clock.elapsed_s(), time.monotonic()
    if rank == 0:
        keep()


def _loader(crops: CropBatches, first: int, stride: int, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        crops,
        batch_size=None,
        sampler=range(first, _ENDLESS, stride),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,  # a fork would copy the threads' locks
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
    )


def _start_worker(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _mean_of_workers(flat: torch.Tensor) -> None:
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()


def _agreed(progress: float) -> float:
    """The mean over the workers, so that all end with the same step."""
    if not distributed.is_initialized():
        return progress
    shared = torch.tensor([progress], dtype=torch.float64)
    _mean_of_workers(shared)
    return float(shared)


def device_of(name: str) -> torch.device:
    """InputError for cuda on a machine without a GPU that torch can use."""
    if name == "cuda":
        if not torch.cuda.is_available():
            raise InputError("--device cuda: torch finds no GPU here; leave it out to train on the processor")
        torch.backends.cudnn.benchmark = True
    return torch.device(name)


def _machine(device: torch.device) -> str:
    cores = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return cores if device.type == "cpu" else f"{torch.cuda.get_device_name(device)}, {cores}"


@cache
def _commit() -> str:
    """Of the code that this process has loaded: asked once, as it starts."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() or "unknown"

"""Training of the embedded backbone: batches, steps, checkpoints, one or several workers."""

from __future__ import annotations

import argparse
import hashlib
import logging
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tqdm.contrib.logging import logging_redirect_tqdm

from grmp_core.errors import InputError
from grmp_core.labels.own_quality import OWN_QUALITY_RULE
from grmp_core.model.backbone import EMBEDDED, OPENAI_MEAN, OPENAI_STD, BackboneConfig, dtype_of, load_backbone
from grmp_core.nano import captions
from grmp_core.nano.caption_model import CaptionModel, start_from_whitened_patches, used_tokens
from grmp_core.nano.caption_training import Average, Batch, FamilyCaptions, TrainConfig, Trainer
from grmp_core.nano.training_crops import TYPES, CropConfig, PhotoSet, load_photos, make_batch
from pipelines.runtime.progress import Progress
from pipelines.runtime.provenance import config_hash
from pipelines.runtime.ray_session import ray_session

log = logging.getLogger("grmp.backbone")


Recipe = dict[str, int | float | str]


RANDOM_WEIGHTS = "random weights"


_worker: dict[str, PhotoSet] = {}


@dataclass(frozen=True)
class Rank:
    """Which of the training processes this is."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    @property
    def average(self) -> Average | None:
        return _average_over_workers if self.world_size > 1 else None


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

    def shown(self, step: int, by_this_process: bool) -> Progress:
        if self.steps:
            return Progress("train_backbone", self.steps, "step", start=step, shown=by_this_process)
        start = self.spent_s / 60
        return Progress("train_backbone", self.minutes, "minute", start=start, timed=True, shown=by_this_process)


def train_on_workers(options: argparse.Namespace) -> None:
    """Train on Ray Train workers. All see `--photos`, `--start-from` and `--out`; a worker that dies costs the time
    since the last checkpoint there."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    out = Path(options.out).absolute()
    settings = {**vars(options), "out": str(out), "photos": [str(Path(folder).absolute()) for folder in options.photos]}
    if options.start_from:
        settings["start_from"] = str(Path(options.start_from).absolute())
    with ray_session():
        TorchTrainer(
            _train_worker,
            train_loop_config=settings,
            scaling_config=ScalingConfig(
                num_workers=options.train_workers,
                use_gpu=options.gpus_per_worker > 0,
                resources_per_worker={"CPU": options.threads, "GPU": options.gpus_per_worker},
            ),
            run_config=RunConfig(
                name=f"train-{int(time.time())}",  # what a run goes on from is OUT/checkpoint.pt
                storage_path=str(out / "ray"),
                failure_config=FailureConfig(
                    max_failures=3,
                    controller_failure_limit=0,  # type: ignore[call-arg]  # Train V2's; mypy sees V1's class
                ),
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        ).fit()


def _train_worker(settings: dict[str, Any]) -> None:
    """The train loop of Ray Train."""
    import ray.train.torch

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    context = ray.train.get_context()
    log.setLevel(logging.INFO if context.get_world_rank() == 0 else logging.WARNING)
    torch.set_num_threads(int(settings["threads"]))
    rank = Rank(context.get_world_rank(), context.get_world_size(), str(ray.train.torch.get_device()))
    train(argparse.Namespace(**settings), rank)


def _average_over_workers(flat: torch.Tensor) -> None:
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()


def train(options: argparse.Namespace, rank: Rank) -> None:
    """Train until the clock says so; the first rank checkpoints and exports on the way and at the end."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(learning_rate=options.learning_rate)
    photo_set = load_photos(options.photos, 0)
    log.info("%d training photos, %d class words", len(photo_set.photos), len(photo_set.class_words))
    dtype = dtype_of(options.precision)
    trainer = make_trainer(photo_set.class_words, config, options.seed, rank, options.start_from, dtype)
    clock, recipe = Clock(options.steps, options.minutes), recipe_of(options)
    if (out / "checkpoint.pt").exists():
        clock.spent_s = load_checkpoint(out / "checkpoint.pt", trainer)
        log.info("resumed at step %d after %.1f minutes", trainer.step, clock.spent_s / 60)
    _check_same_step(trainer.step, rank)
    with logging_redirect_tqdm(), make_pool(options) as pool:
        if trainer.step == 0 and not options.start_from:
            images = torch.cat([b.images_BHWC for b in pool.map(_make_batch, _jobs(options, -8, 0))])
            start_from_whitened_patches(trainer.model, images, torch.Generator().manual_seed(options.seed))
            trainer.reset_average()
        clock.started_s = time.monotonic()
        first = trainer.step * rank.world_size + rank.rank
        batches = bounded(pool, _jobs(options, first, None, rank.world_size), ahead=4 * options.workers)
        run(trainer, batches, clock, lambda: save(trainer, clock, out, recipe), options.checkpoint_minutes, rank)


def run(
    trainer: Trainer,
    batches: Iterator[Batch],
    clock: Clock,
    keep: Callable[[], None],
    checkpoint_minutes: float,
    rank: Rank,
) -> None:
    """The loop: step, now and then a line of progress, now and then a checkpoint with an export."""
    recent: list[dict[str, float]] = []
    seen, waited_s, saved_s, since_s = 0, 0.0, clock.elapsed_s(), time.monotonic()
    shown, note = clock.shown(trainer.step, rank.rank == 0), ""
    while (progress := _agreed(clock.progress(trainer.step), rank)) < 1:
        asked_s = time.monotonic()
        batch = next(batches)
        waited_s += time.monotonic() - asked_s
        recent.append(trainer.train_step(batch, progress))
        seen += len(batch.images_BHWC) * rank.world_size
        if trainer.step % 50 == 0:
            rate = seen / (time.monotonic() - since_s)
            note = f"step {trainer.step}, {rate:.0f} images/s, waited {waited_s:.0f} s: {_mean_losses(recent)}"
            recent, seen, waited_s, since_s = [], 0, 0.0, time.monotonic()
        shown.to(trainer.step if clock.steps else clock.elapsed_s() / 60, note)
        if rank.rank == 0 and clock.elapsed_s() - saved_s > 60 * checkpoint_minutes:
            keep()
            saved_s = clock.elapsed_s()
    shown.close()
    if rank.rank == 0:
        keep()


def _agreed(progress: float, rank: Rank) -> float:
    """The mean over the workers, so that all end with the same step."""
    if rank.average is None:
        return progress
    shared = torch.tensor([progress], dtype=torch.float64, device=rank.device)
    rank.average(shared)
    return float(shared)


def _check_same_step(step: int, rank: Rank) -> None:
    """Raise RuntimeError where one of the workers has read another checkpoint than this one."""
    if _agreed(step, rank) != step:
        raise RuntimeError(f"not all workers go on from step {step}: do all see the same --out?")


def _mean_losses(recent: list[dict[str, float]]) -> str:
    sums: dict[str, list[float]] = {}
    for losses in recent:
        for name, loss in losses.items():
            sums.setdefault(name, []).append(loss)
    return " ".join(f"{name} {np.mean(values):.3f}" for name, values in sums.items())


def make_trainer(
    class_words: list[str],
    config: TrainConfig,
    seed: int,
    rank: Rank,
    start_from: str | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Trainer:
    """A trainer of a fresh `grmp-nano`, or of one that goes on from weights; tokens that they do not know are fresh."""
    torch.manual_seed(seed)
    clip = open_clip.create_model(EMBEDDED, load_weights=False)
    if start_from:
        fresh_rows = clip.token_embedding.weight.detach().clone()
        clip.load_state_dict(load_backbone(BackboneConfig(checkpoint=start_from)).clip.state_dict())
        unknown = (clip.token_embedding.weight == 0).all(dim=1)
        with torch.no_grad():
            clip.token_embedding.weight[unknown] = fresh_rows[unknown]
    tokenize = open_clip.get_tokenizer(EMBEDDED)
    tokens = used_tokens(tokenize, captions.all_captions(TYPES, class_words))
    model = CaptionModel(clip, tokens, OPENAI_MEAN, OPENAI_STD)
    families = FamilyCaptions(TYPES, class_words, config)
    return Trainer(model, families, tokenize, config, seed, dtype, torch.device(rank.device), rank.average)


def save(trainer: Trainer, clock: Clock, out: Path, recipe: Recipe) -> None:
    """Checkpoint and export, each written whole or not at all."""
    content = {"trainer": trainer.state_dict(), "spent_s": clock.elapsed_s(), "recipe": recipe}
    torch.save(content, out / "checkpoint.pt.tmp")
    os.replace(out / "checkpoint.pt.tmp", out / "checkpoint.pt")
    save_file(trainer.averaged_model().export_state(), out / "weights.safetensors.tmp")
    os.replace(out / "weights.safetensors.tmp", out / "weights.safetensors")
    log.info("step %d saved in %s", trainer.step, out)


def load_checkpoint(path: Path, trainer: Trainer) -> float:
    """Put a checkpoint into the trainer; -> seconds that were spent on it."""
    content = torch.load(path, weights_only=True)
    trainer.load_state_dict(content["trainer"])
    return float(content["spent_s"])


def check_recipe(checkpoint: Path, recipe: Recipe) -> None:
    """InputError when a checkpoint is there that another recipe made."""
    if not checkpoint.exists():
        return
    made = torch.load(checkpoint, weights_only=True, mmap=True).get("recipe", {})
    made = {"--start-from": RANDOM_WEIGHTS, "--precision": "bf16", **made}  # as it was before there was a choice
    other = [f"{name} {made.get(name, 'unknown')}" for name in recipe if made.get(name) != recipe[name]]
    if other:
        raise InputError(f"{checkpoint} was made with {', '.join(other)}; give the same again, or another --out")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The options that decide about the weights, but for the length of the run."""
    names = ("seed", "batch_size", "learning_rate", "procedural", "precision")
    recipe: Recipe = {f"--{name.replace('_', '-')}": vars(options)[name] for name in names}
    recipe["--photos"] = ", ".join(Path(folder).absolute().name for folder in options.photos)
    recipe["--train-workers"] = options.train_workers
    recipe["--start-from"] = _digest_of(options.start_from) if options.start_from else RANDOM_WEIGHTS
    labels = (OWN_QUALITY_RULE, CropConfig(), TrainConfig().weights)
    recipe["crops, labels and weights of the losses"] = config_hash(*labels)
    return recipe


def _digest_of(weights: str) -> str:
    if not Path(weights).is_file():
        raise InputError(f"--start-from '{weights}' does not exist; give the path of a weights file")
    return hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:12]


def make_pool(options: argparse.Namespace) -> ProcessPoolExecutor:
    """Workers that hold the photos in memory. One that is killed ends the run instead of letting it wait."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of the training process
    return ProcessPoolExecutor(options.workers, context, _start_worker, (options.photos, options.procedural))


def bounded(pool: ProcessPoolExecutor, jobs: Iterator[tuple[int, int, int]], ahead: int) -> Iterator[Batch]:
    """Results in order, with at most `ahead` batches made in advance."""
    pending = deque(pool.submit(_make_batch, next(jobs)) for _ in range(ahead))
    try:
        while True:
            pending.append(pool.submit(_make_batch, next(jobs)))
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _jobs(options: argparse.Namespace, first: int, stop: int | None, stride: int = 1) -> Iterator[tuple[int, int, int]]:
    index = first
    while stop is None or index < stop:
        yield options.batch_size, options.seed, index
        index += stride


def _start_worker(folders: list[str], num_procedural: int) -> None:
    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
    _worker["photos"] = load_photos(folders, num_procedural)


def _make_batch(job: tuple[int, int, int]) -> Batch:
    batch_size, seed, index = job
    return make_batch(_worker["photos"].photos, batch_size, CropConfig(), seed, index)

"""Outer steps in this process or on Ray Train workers, with a checkpoint every few steps."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import ray
import ray.train
import torch
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.learning.meta_pretraining import MetaState, meta_train
from grmp_core.learning.rank_losses import meta_loss
from grmp_core.model.backbone import load_backbone
from grmp_core.model.quality_model import QualityModel
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.pretraining.checkpoints import History, read_state, write_state
from pipelines.pretraining.episode_sources import by_step, stored_episodes, streamed_episodes
from pipelines.runtime.computing import device_here, prepare_to_compute
from pipelines.runtime.console import say
from pipelines.runtime.metrics import count
from pipelines.runtime.progress import Progress
from pipelines.task_making.picture_sources import Reference
from pipelines.training.checkpoints import CheckpointWriter
from pipelines.training.workers import SpotWarning, alone, check_same_step, reduction, require_workers, train_on_workers

Save = Callable[[MetaState, History], None]


def spread(num_tasks: int, config: Config) -> str:
    """How an outer step's work falls to the workers, in words."""
    per_step = min(num_tasks, config.meta.tasks_per_step or num_tasks)
    episodes, workers = per_step * config.meta.episodes_per_task, max(1, config.pretrain.workers)
    each = f"{episodes // workers}" + (f" or {episodes // workers + 1}" if episodes % workers else "")
    text = f"{episodes} episodes of {per_step} tasks an outer step on {workers} workers, {each} on each"
    if workers <= episodes:
        return text
    enough = -(-workers // per_step)
    return f"{text}; {workers - episodes} workers idle: set meta.episodes_per_task={enough} to use them"


def learn(
    config: Config,
    source: list[Reference] | None,
    device: torch.device,
    restored: tuple[MetaState, History] | None,
    save_state: Save,
    *,
    rank: int = 0,
    world_size: int = 1,
    reduce: Callable[[Tensor], None] | None = None,
    must_save: Callable[[], bool] = lambda: False,
) -> tuple[MetaState, History]:
    """The loop of one worker, free of Ray Train. All workers return the same state.

    Args:
        source: references to stream episodes from; null reads the task store.
        save_state: called by every worker after every `checkpoint_every` outer steps and after the last.
        must_save: asked by every worker after every outer step; the same answer on all makes one checkpoint more.
    """
    prepare_to_compute(config.pretrain.cpus_per_worker)
    model = QualityModel(
        load_backbone(config.backbone),
        config.prompts,
        precision=config.precision,
        seed=config.seed,
        compiler=config.compiler,
    ).to(device)
    state, history = restored or (MetaState(0, model.prompt_parameters()), [])
    state = MetaState(state.step, _to(state.parameters, device), _to(state.drifted, device))

    def loss_function(parameters: Mapping[str, Tensor], images: Tensor, quality: Tensor) -> Tensor:
        return meta_loss(model.predict(parameters, images).quality_logits_BK, quality, config.meta.loss)

    steps = range(state.step, config.meta.outer_steps)
    if source is None:
        episodes = stored_episodes(config, steps, rank, world_size, device)
    else:
        episodes = streamed_episodes(config, source, steps, rank, world_size, device)
    outer_steps = meta_train(
        state, loss_function, by_step(episodes), config.meta, world_size=world_size, reduce=reduce or alone
    )
    with Progress("pretrain", config.meta.outer_steps, "outer step", start=state.step, shown=rank == 0) as progress:
        for record, reached in outer_steps:
            state = reached
            history.append(dataclasses.asdict(record))
            losses = f"support loss {record.support_loss:.4f}, query loss {record.query_loss:.4f}"
            progress.to(record.step, losses)
            if rank == 0:
                count("grmp_outer_steps")
            due = record.step % config.pretrain.checkpoint_every == 0 or record.step == config.meta.outer_steps
            if must_save() or due:
                save_state(state, history)
    return state, history


def learn_here(arguments: dict[str, Any]) -> None:
    config, kept = arguments["config"], locate(arguments["kept"])
    device = device_here(config.pretrain.gpus_per_worker, "pretrain.gpus_per_worker", "pretrain.workers")
    restored = read_state(kept)
    say_where(restored)
    with CheckpointWriter(lambda state, history: write_state(kept, state, history)) as writer:
        learn(config, arguments["source"], device, restored, writer.write)


def learn_on_workers(arguments: dict[str, Any], config: Config, run: Location) -> None:
    _check_resources(config)
    train_on_workers(_worker, arguments, config.pretrain, run)


def _worker(arguments: dict[str, Any]) -> None:
    """The train loop of Ray Train."""
    config, kept = arguments["config"], locate(arguments["kept"])
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    logging.getLogger().setLevel(logging.WARNING)
    rank, world_size = context.get_world_rank(), context.get_world_size()
    reduce = reduction(world_size)
    restored = read_state(kept)
    check_same_step(restored[0].step if restored else 0, world_size, reduce, device)
    if rank == 0:
        say_where(restored)

    with CheckpointWriter(lambda state, history: write_state(kept, state, history)) as writer:
        learn(
            config,
            arguments["source"],
            device,
            restored,
            writer.write if rank == 0 else lambda state, history: None,
            rank=rank,
            world_size=world_size,
            reduce=reduce,
            must_save=SpotWarning("pretrain"),
        )


def say_where(restored: tuple[MetaState, History] | None) -> None:
    if restored is not None:
        say(f"pretrain: goes on after outer step {restored[0].step}")


def _check_resources(config: Config) -> None:
    settings = config.pretrain
    require_workers(settings, config.wait_for_nodes_s, "pretrain")
    count = settings.min_workers or settings.workers
    if settings.episodes == "stream" and count * settings.cpus_per_worker + 1 > ray.cluster_resources().get("CPU", 0):
        raise InputError(
            f"pretrain.episodes stream makes tasks beside {count} workers of {settings.cpus_per_worker:g} CPUs: it "
            f"needs 1 CPU more, and the cluster has {ray.cluster_resources().get('CPU', 0):g} in all; "
            "lower pretrain.workers or pretrain.cpus_per_worker"
        )


def _to(parameters: dict[str, Tensor] | None, device: torch.device) -> Any:
    return None if parameters is None else {name: tensor.to(device) for name, tensor in parameters.items()}

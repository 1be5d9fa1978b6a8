"""Meta-prompt pre-training with Ray Train: tasks are spread over workers, one all-reduce an outer step."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import Tensor

from grmp_core.backbone import load_backbone
from grmp_core.bundle import Bundle, write_bundle
from grmp_core.errors import InputError
from grmp_core.meta import MetaState, OuterRecord, check_workers, meta_train
from grmp_core.model import QualityModel
from grmp_core.objectives import quality_loss
from grmp_core.storage import Location, locate
from grmp_core.task_store import TaskStore
from grmp_core.tasks import tasks_of_step
from pipelines.checkpoints import History, read_state, write_state
from pipelines.config import Config, as_dict, build
from pipelines.episodes import check_store, stored_episodes, streamed_episodes
from pipelines.resources import require
from pipelines.session import config_hash, output_place, ray_session, say, table, versions, write_manifest
from pipelines.sources import Reference, scan_references, task_names
from pipelines.synthesize import fingerprint
from pipelines.tracking import open_tracking

Save = Callable[[MetaState, History], None]


@dataclass(frozen=True)
class Pretraining:
    """Result of `grmp pretrain`."""

    bundle: str
    tasks: int
    history: History
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def as_text(self) -> str:
        picked = sorted({0, len(self.history) // 2, len(self.history) - 1})
        shown = [{key: self.history[i][key] for key in ("step", "support_loss", "query_loss")} for i in picked]
        return f"{table(shown)}\n{self.tasks} tasks, {self.seconds:.0f} s\n{self.bundle}"


def run(config: Config) -> Pretraining:
    """Pre-train and write the prompt bundle `<output>/pretrain/bundle`. An interrupted run goes on where it was."""
    started = time.time()
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    place = output_place(config, "pretrain")
    backbone = load_backbone(config.backbone)
    QualityModel(backbone, config.prompts, seed=config.seed)  # refuses prompts that do not fit before workers start
    with ExitStack() as stack:
        if config.pretrain.episodes == "stream":
            stack.enter_context(ray_session())
            usable, rejected = scan_references(config)
            source: Any = usable
            tasks: tuple[str, ...] = task_names(config)
            data, pictures = fingerprint(config, usable), str(config.synthesize.source)
        else:
            store = TaskStore(output_place(config, "tasks"))
            plan = check_store(store, config)
            data, pictures = plan.fingerprint, plan.source
            source, rejected, tasks = None, [], store.tasks
        check_workers(config.meta, config.pretrain.workers)
        tasks_of_step(tasks, 0, config.meta, config.seed)  # refuses more than there are
        weights = dataclasses.replace(config.backbone, checkpoint=None), backbone.weights_sha256  # wherever they lie
        identity = config_hash(config.seed, config.precision, weights, config.prompts, config.meta, data)
        kept = place / "state" / identity
        say(f"pretrain: {spread(len(tasks), config)}")
        known = read_state(kept)
        if known is not None and known[0].step >= config.meta.outer_steps:
            _say_where(known)
        else:
            arguments = {"config": as_dict(config), "source": source, "kept": kept.uri}
            if config.pretrain.workers == 0:
                _learn_here(arguments)
            else:
                stack.enter_context(ray_session())
                _learn_on_workers(arguments, config, place / "train" / f"{identity}-{time.time_ns()}")
            known = read_state(kept)
    if known is None:
        raise RuntimeError(f"pre-training ended without a checkpoint in {kept.uri}")
    state, history = known
    bundle = Bundle(
        kind="prompts",
        backbone=config.backbone.at_home(),
        backbone_sha256=backbone.weights_sha256,
        prompts=config.prompts,
        views=config.views,
        precision=config.precision,
        parameters=state.parameters,
        metrics={"query_loss": history[-1]["query_loss"]},
        provenance={
            "tasks": list(tasks),
            "source": pictures,
            "meta": dataclasses.asdict(config.meta),
            "seed": config.seed,
            "versions": versions(),
        },
    )
    write_bundle(place / "bundle", bundle)
    (place / "history.json").write_json({"history": history})
    counts = {"tasks": len(tasks), "outer_steps": state.step}
    write_manifest(place, "pretrain", config, started, inputs={"identity": identity}, counts=counts, rejected=rejected)
    tracking.log_pretrain(place)
    return Pretraining((place / "bundle").uri, len(tasks), history, time.time() - started)


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
    torch.set_num_threads(max(1, int(config.pretrain.cpus_per_worker)))  # sums depend on it, in their last bits
    model = QualityModel(load_backbone(config.backbone), config.prompts, precision=config.precision, seed=config.seed)
    model = model.to(device)
    state, history = restored or (MetaState(0, model.prompt_parameters()), [])
    state = MetaState(state.step, _to(state.parameters, device), _to(state.drifted, device))

    def loss_function(parameters: Mapping[str, Tensor], images: Tensor, quality: Tensor) -> Tensor:
        return quality_loss(model.predict(parameters, images).quality_logits_BK, quality)

    steps = range(state.step, config.meta.outer_steps)
    if source is None:
        episodes_of = stored_episodes(config, rank, world_size, device)
    else:
        episodes_of = streamed_episodes(config, source, steps, rank, world_size, device)
    outer_steps = meta_train(
        state, loss_function, episodes_of, config.meta, world_size=world_size, reduce=reduce or _alone
    )
    for record, reached in outer_steps:
        state = reached
        history.append(dataclasses.asdict(record))
        _progress(record, config, rank)
        due = record.step % config.pretrain.checkpoint_every == 0 or record.step == config.meta.outer_steps
        if must_save() or due:
            save_state(state, history)
    return state, history


def _learn_here(arguments: dict[str, Any]) -> None:
    config, kept = build(Config, arguments["config"], ""), locate(arguments["kept"])
    device = torch.device("cuda" if torch.cuda.is_available() and config.pretrain.gpus_per_worker else "cpu")
    restored = read_state(kept)
    _say_where(restored)
    learn(config, arguments["source"], device, restored, lambda state, history: write_state(kept, state, history))


def _learn_on_workers(arguments: dict[str, Any], config: Config, run: Location) -> None:
    """Ray Train's own record of a run, in the folder `run`, is of no use to another one: a driver that is killed may
    leave it half-written. Whatever starts or starts again goes on from the last of our checkpoints."""
    wanted = config.pretrain
    _check_resources(config)
    resources = {"CPU": wanted.cpus_per_worker, "GPU": wanted.gpus_per_worker}
    trainer = TorchTrainer(
        _worker,
        train_loop_config=arguments,
        scaling_config=ScalingConfig(
            num_workers=wanted.workers if not wanted.min_workers else (wanted.min_workers, wanted.workers),  # type: ignore[arg-type]  # V2
            use_gpu=wanted.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=run.parent.uri,
            failure_config=FailureConfig(
                max_failures=wanted.max_failures,
                controller_failure_limit=wanted.max_failures,  # type: ignore[call-arg]  # Train V2's; mypy sees V1's
            ),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    trainer.fit()
    run.delete_folder()


def _worker(arguments: dict[str, Any]) -> None:
    """The train loop of Ray Train."""
    config, kept = build(Config, arguments["config"], ""), locate(arguments["kept"])
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    logging.getLogger().setLevel(logging.WARNING)
    rank, world_size = context.get_world_rank(), context.get_world_size()
    reduce = _all_reduce if world_size > 1 else _alone
    restored = read_state(kept)
    _check_same_step(restored[0].step if restored else 0, world_size, reduce, device)
    if rank == 0:
        _say_where(restored)

    def keep(state: MetaState, history: History) -> None:
        if rank == 0:
            write_state(kept, state, history)

    learn(
        config,
        arguments["source"],
        device,
        restored,
        keep,
        rank=rank,
        world_size=world_size,
        reduce=reduce,
        must_save=SpotWarning(),
    )


def _check_same_step(step: int, world_size: int, reduce: Callable[[Tensor], None], device: torch.device) -> None:
    """Raise RuntimeError, for Ray Train to start all workers again, where one read a checkpoint older than another."""
    moments = torch.tensor([step, step * step], dtype=torch.float64, device=device)
    reduce(moments)
    mean, mean_square = (moments / world_size).tolist()
    if mean_square != mean * mean:
        raise RuntimeError(f"the workers found checkpoints of different outer steps in one place; this one of {step}")


def _say_where(restored: tuple[MetaState, History] | None) -> None:
    if restored is not None:
        say(f"pretrain: goes on after outer step {restored[0].step}")


class SpotWarning:
    """True once for every announcement that the cluster takes the node of a worker away.

    Every worker must ask equally often: Ray answers all of them alike, when all have asked.
    """

    def __init__(self) -> None:
        self._heeded: set[str] = set()

    def __call__(self) -> bool:
        info = ray.train.get_preemption_info()
        news = set(info.preempted_node_ids if info else ()) - self._heeded
        if news and ray.train.get_context().get_world_rank() == 0:
            say(f"pretrain: a node is about to be taken away: {', '.join(sorted(news))}; checkpoint")
        self._heeded |= news
        return bool(news)


def _all_reduce(flat: Tensor) -> None:
    torch.distributed.all_reduce(flat)


def _alone(flat: Tensor) -> None:
    """One worker's sum is the sum."""


def _check_resources(config: Config) -> None:
    wanted = config.pretrain
    count = wanted.min_workers or wanted.workers
    fix = "lower pretrain.workers, pretrain.cpus_per_worker or pretrain.gpus_per_worker"
    piece = {"CPU": wanted.cpus_per_worker, "GPU": wanted.gpus_per_worker}
    require(piece, count, config.wait_for_nodes_s, "pre-training wants", fix)
    if wanted.episodes == "stream" and count * wanted.cpus_per_worker + 1 > ray.cluster_resources().get("CPU", 0):
        raise InputError(
            f"pretrain.episodes stream makes tasks beside {count} workers of {wanted.cpus_per_worker:g} CPUs and needs "
            f"1 CPU more, the cluster has {ray.cluster_resources().get('CPU', 0):g} in all; "
            "lower pretrain.workers or pretrain.cpus_per_worker"
        )


def _progress(record: OuterRecord, config: Config, rank: int) -> None:
    every = max(1, config.meta.outer_steps // 20)
    if rank == 0 and (record.step % every == 0 or record.step in (1, config.meta.outer_steps)):
        say(
            f"pretrain: outer step {record.step}/{config.meta.outer_steps}, "
            f"support loss {record.support_loss:.4f}, query loss {record.query_loss:.4f}"
        )


def _to(parameters: dict[str, Tensor] | None, device: torch.device) -> Any:
    return None if parameters is None else {name: tensor.to(device) for name, tensor in parameters.items()}


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("pretrain")

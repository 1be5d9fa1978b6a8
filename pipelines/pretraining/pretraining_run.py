"""Meta-prompt pre-training with Ray Train: tasks are spread over workers, one all-reduce an outer step."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from grmp_core.identity import Identity
from grmp_core.learning.episode_plan import tasks_of_step
from grmp_core.learning.meta_pretraining import check_workers
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.tasks.task_store import TaskStore
from pipelines.configuration.schema import Config
from pipelines.pretraining.checkpoints import History, read_state
from pipelines.pretraining.episode_sources import check_store
from pipelines.pretraining.training_loop import learn_here, learn_on_workers, say_where, spread
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import output_folder, versions, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.task_making.picture_quality import with_quality
from pipelines.task_making.picture_sources import scan_references, task_names
from pipelines.task_making.task_writer import store_identity
from pipelines.tracking.system_metrics import system_metrics
from pipelines.tracking.tracker import open_tracking
from pipelines.training.checkpoints import state_folder


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


def pretrain_prompts(config: Config) -> Pretraining:
    """Pre-train and write the prompt bundle `<output>/pretrain/bundle`. An interrupted run goes on where it was."""
    started = time.time()
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    folder = output_folder(config, "pretrain")
    backbone = load_backbone(config.backbone)
    QualityModel(backbone, config.prompts, seed=config.seed)  # refuses prompts that do not fit before workers start
    with ExitStack() as stack:
        if config.pretrain.episodes == "stream":
            stack.enter_context(ray_session())
            usable, rejected = scan_references(config)
            usable = with_quality(config, usable)
            source: Any = usable
            tasks: tuple[str, ...] = task_names(config)
            data, pictures = store_identity(config, usable).digest, str(config.synthesize.source)
        else:
            store = TaskStore(output_folder(config, "tasks"))
            plan = check_store(store, config)
            data, pictures = plan.fingerprint, plan.source
            source, rejected, tasks = None, [], store.tasks
        check_workers(config.meta, config.pretrain.workers)
        tasks_of_step(tasks, 0, config.meta, config.seed)  # refuses more than there are
        identity = pretraining_identity(config, backbone, data)
        say(f"pretrain: {spread(len(tasks), config)}")
        kept = state_folder(folder / "state", identity, "pretrain")
        reached = read_state(kept)
        if reached is not None and reached[0].step >= config.meta.outer_steps:
            say_where(reached)
        else:
            arguments = {"config": config, "source": source, "kept": kept.uri}
            if config.pretrain.workers:
                stack.enter_context(ray_session())
            stack.enter_context(system_metrics(config, folder, identity.digest))
            if config.pretrain.workers == 0:
                learn_here(arguments)
            else:
                learn_on_workers(arguments, config, folder / "train" / f"{identity.digest}-{time.time_ns()}")
            reached = read_state(kept)
    if reached is None:
        raise RuntimeError(f"pre-training ended without a checkpoint in {kept.uri}")
    state, history = reached
    bundle = Bundle(
        kind="prompts",
        backbone=config.backbone.at_home(),
        backbone_sha256=backbone.weights_sha256,
        prompts=config.prompts,
        views=config.views,
        precision=config.precision,
        parameters=state.parameters,
        colour_profiles=config.images.colour_profiles,
        metrics={"query_loss": history[-1]["query_loss"]},
        provenance={
            "tasks": list(tasks),
            "source": pictures,
            "meta": dataclasses.asdict(config.meta),
            "seed": config.seed,
            "versions": versions(),
        },
    )
    write_bundle(folder / "bundle", bundle)
    (folder / "history.json").write_json({"history": history})
    counts = {"tasks": len(tasks), "outer_steps": state.step}
    inputs = {"identity": identity.digest, "tasks": data}
    write_manifest(folder, "pretrain", config, started, inputs=inputs, counts=counts, rejected=rejected)
    tracking.log("pretrain", folder)
    return Pretraining((folder / "bundle").uri, len(tasks), history, time.time() - started)


def pretraining_identity(config: Config, backbone: Backbone, data: str) -> Identity:
    """Every setting and input that decides about the prompts. The number of workers, views and `compile` are none."""
    parts = {
        "seed": config.seed,
        "precision": config.precision,
        "backbone": config.backbone,
        "backbone.sha256": backbone.weights_sha256,
        "prompts": config.prompts,
        "meta": config.meta,
        "tasks.fingerprint": data,
    }
    return Identity.of(parts, without={"backbone.checkpoint"})  # where the weights lie does not matter

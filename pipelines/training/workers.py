"""Workers of Ray Train for a training loop that keeps checkpoints of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import ray.train
import torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines.runtime.capacity import require
from pipelines.runtime.console import say

Reduce = Callable[[Tensor], None]
"""Puts the sum over all workers in the place of a worker's own tensor."""


class WorkerSettings(Protocol):
    """Of a section of the configuration."""

    @property
    def workers(self) -> int: ...
    @property
    def min_workers(self) -> int: ...
    @property
    def cpus_per_worker(self) -> float: ...
    @property
    def gpus_per_worker(self) -> float: ...
    @property
    def max_failures(self) -> int: ...


def train_on_workers(
    worker: Callable[[dict[str, Any]], None], arguments: dict[str, Any], settings: WorkerSettings, run: Location
) -> None:
    """Run `worker` with `arguments` on all workers until it ends, again from its last checkpoint where one dies.

    Ray Train's own record of a run, in the folder `run`, is of no use to another one: a driver that is killed may
    leave it half-written. Whatever starts or starts again goes on from the last of the loop's own checkpoints.

    An InputError of a worker is raised here. That of a worker which is alone is not tried again.
    """
    resources = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    trainer = TorchTrainer(
        _answering(worker),
        train_loop_config=arguments,
        scaling_config=ScalingConfig(
            num_workers=settings.workers if not settings.min_workers else (settings.min_workers, settings.workers),  # type: ignore[arg-type]  # V2
            use_gpu=settings.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=run.parent.uri,
            failure_config=FailureConfig(
                max_failures=settings.max_failures,
                controller_failure_limit=settings.max_failures,  # type: ignore[call-arg]  # Train V2's; mypy sees V1's
            ),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    refusal = fit(trainer)
    run.delete_folder()
    if isinstance(refusal, InputError):
        raise refusal


def fit(trainer: TorchTrainer) -> Any:
    """Return value of the worker of rank 0. InputError where a worker raised one, else Ray Train's own exceptions."""
    try:
        return trainer.fit().return_value  # type: ignore[attr-defined]  # V2
    except WorkerGroupError as error:
        failures = [error.worker_failures[rank] for rank in sorted(error.worker_failures)]
        refusal = next((failure for failure in failures if isinstance(failure, InputError)), None)
        if refusal is None:
            raise
        raise refusal from error


def _answering(worker: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], Any]:
    """A worker that returns its InputError, which Ray Train would try again. One of several raises it all the same:
    Ray Train then ends the others, which wait for it."""

    def answer(arguments: dict[str, Any]) -> InputError | None:
        try:
            worker(arguments)
        except InputError as error:
            if ray.train.get_context().get_world_size() > 1:
                raise
            return error
        return None

    return answer


def require_workers(settings: WorkerSettings, wait_s: float, command: str) -> None:
    """InputError when the cluster has no room for the workers that the section `command` asks for."""
    fix = f"lower {command}.workers, {command}.cpus_per_worker or {command}.gpus_per_worker"
    piece = {"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker}
    require(piece, settings.min_workers or settings.workers, wait_s, f"grmp {command} wants", fix)


def reduction(world_size: int) -> Reduce:
    """The sum over `world_size` workers; of one worker its own."""
    return _all_reduce if world_size > 1 else alone


def alone(flat: Tensor) -> None:
    """One worker's sum is the sum."""


def _all_reduce(flat: Tensor) -> None:
    torch.distributed.all_reduce(flat)


def check_same_step(step: int, world_size: int, reduce: Reduce, device: torch.device) -> None:
    """Raise RuntimeError, for Ray Train to start all workers again, where one read a checkpoint older than another."""
    moments = torch.tensor([step, step * step], dtype=torch.float64, device=device)
    reduce(moments)
    mean, mean_square = (moments / world_size).tolist()
    if mean_square != mean * mean:
        raise RuntimeError(f"the workers found checkpoints of different steps in one place; this one of {step}")


class SpotWarning:
    """True once for every announcement that the cluster takes the node of a worker away.

    Every worker must ask equally often: Ray answers all of them alike, when all have asked.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._heeded: set[str] = set()

    def __call__(self) -> bool:
        info = ray.train.get_preemption_info()
        news = set(info.preempted_node_ids if info else ()) - self._heeded
        if news and ray.train.get_context().get_world_rank() == 0:
            say(f"{self._command}: a node is about to be taken away: {', '.join(sorted(news))}; checkpoint")
        self._heeded |= news
        return bool(news)

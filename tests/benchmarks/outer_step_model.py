"""Arithmetic of one outer step of pre-training on many workers, and the constants of a GPU and a network that nobody
measured here.

It leaves out stragglers, failures, and the start of the workers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grmp_core.tasks.distortion_tasks import LEVELS
from pipelines.pretraining.episode_sources import KEPT_BYTES

FLOAT64 = 8  # of the all-reduced sum (grmp_core.learning.meta_pretraining.UpdateSum)
VIEW_PX = 224


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Parts of an outer step; seconds and bytes."""

    learn_s: float
    """Learning one task: inner steps on support and query batches."""
    read_s: float
    """Reading one task's views, when nobody else reads."""
    task_bytes: float
    """Views of one task."""
    storage_bytes_per_s: float
    """Of the shared storage, all workers together."""
    prompt_values: int
    """Learned numbers: what an all-reduce sums."""
    link_bytes_per_s: float
    latency_s: float
    """Of one message between two workers."""
    checkpoint_s: float
    checkpoint_every: int
    fixed_s: float
    """Of a step, besides its tasks, on every worker."""
    batch_size: int
    inner_steps: int = 1
    indivisible: float = 0.0
    """Share of a task's learning that does not shrink with its batch (kernel launches, text side)."""
    whole_task_bytes: float = math.inf
    """Views of one task in the store, of which a step draws `task_bytes`."""
    kept_bytes: float = 0.0
    """Views that a worker keeps in memory; it gets the same tasks in every step."""


@dataclass(frozen=True)
class Step:
    """Seconds of one outer step on the busiest worker, by what they are spent on. Of reading and of checkpoints, what
    does not hide behind learning: views are read ahead, and a thread writes."""

    learning: float
    reading: float
    all_reduce: float
    checkpoint: float
    fixed: float

    @property
    def seconds(self) -> float:
        return self.learning + self.reading + self.all_reduce + self.checkpoint + self.fixed


def outer_step(costs: Costs, tasks: int, workers: int, replicas: int = 1) -> Step:
    """The step of `workers`, of which groups of `replicas` share a task by splitting its batches."""
    groups = workers // replicas
    most = math.ceil(tasks / groups)
    shrunk = costs.indivisible + (1 - costs.indivisible) / replicas
    inner = 2 * costs.inner_steps * all_reduce_s(costs, replicas)  # a gradient for each support and query batch
    read_again = max(0.0, 1 - costs.kept_bytes / (most * costs.whole_task_bytes))  # once the first steps are over
    alone_s = read_again * most * costs.read_s / replicas
    shared_s = read_again * tasks * costs.task_bytes / costs.storage_bytes_per_s
    learning = most * (costs.learn_s * shrunk + inner)
    reading, all_reduce = max(0.0, max(alone_s, shared_s) - learning), all_reduce_s(costs, workers)
    rest = learning + reading + all_reduce + costs.fixed_s
    checkpoint = max(0.0, costs.checkpoint_s / costs.checkpoint_every - rest)
    return Step(learning, reading, all_reduce, checkpoint, costs.fixed_s)


def all_reduce_s(costs: Costs, workers: int) -> float:
    """Ring: 2 (W - 1) messages of 1/W of the bytes each."""
    messages = 2 * (workers - 1)
    return messages * (costs.latency_s + FLOAT64 * costs.prompt_values / workers / costs.link_bytes_per_s)


def efficiency(costs: Costs, tasks: int, workers: int, replicas: int = 1) -> float:
    """Speed-up over one worker, divided by the workers."""
    return outer_step(costs, tasks, 1).seconds / outer_step(costs, tasks, workers, replicas).seconds / workers


def bottleneck(costs: Costs, tasks: int, workers: int, replicas: int = 1) -> str:
    """Where most of the time goes that an ideal spread over the workers would not take."""
    one, now = outer_step(costs, tasks, 1), outer_step(costs, tasks, workers, replicas)
    lost = {name: getattr(now, name) - getattr(one, name) / workers for name in dataclasses.asdict(now)}
    worst = max(lost, key=lambda name: lost[name])
    if lost[worst] <= 1e-12:
        return "none"
    return "idle workers" if worst == "learning" and workers > replicas * tasks else worst.replace("_", "-")


def best_replicas(costs: Costs, tasks: int, workers: int) -> int:
    """Workers a task is shared by that make the step shortest; every one needs an image of the batch."""
    most = max(1, min(workers, costs.batch_size))
    return min(range(1, most + 1), key=lambda r: (outer_step(costs, tasks, workers, r).seconds, r))


def enough_workers(tasks: int, workers: int, replicas: int) -> int:
    """The fewest workers that need no longer: with 25 tasks, 7 are as fast as 8."""
    return replicas * math.ceil(tasks / math.ceil(tasks / (workers // replicas)))


# --- assumed -----------------------------------------------------------------------------------------------------

PAPER_TASKS = 25  # distortion types of KADID-10k
GPU = Costs(
    learn_s=0.25,  # ViT-B/16, bf16, 16 support and 16 query images
    read_s=0.02,
    task_bytes=2 * 16 * 3 * VIEW_PX**2,
    storage_bytes_per_s=1e9,
    prompt_values=100 * 12 * 768 + 4 * 512,  # exact: the default prompts of ViT-B/16
    link_bytes_per_s=3e9,  # 25 Gbit/s Ethernet between nodes
    latency_s=50e-6,
    checkpoint_s=1.0,  # to an object store
    checkpoint_every=10,
    fixed_s=0.01,
    batch_size=16,
    indivisible=0.3,
    whole_task_bytes=48 * len(LEVELS) * 3 * VIEW_PX**2,
    kept_bytes=KEPT_BYTES,
)
CLUSTERS = (1, 8, 64, 512)


def projection(costs: Costs, tasks: int, clusters: Sequence[int]) -> list[dict[str, Any]]:
    """One row a cluster size: as the program spreads tasks now, and with replicas of tasks."""
    rows = []
    for workers in clusters:
        replicas = best_replicas(costs, tasks, workers)
        rows.append(
            {
                "GPUs": workers,
                "step s": outer_step(costs, tasks, workers).seconds,
                "efficiency": efficiency(costs, tasks, workers),
                "bottleneck": bottleneck(costs, tasks, workers),
                "replicas": replicas,
                "step s with": outer_step(costs, tasks, workers, replicas).seconds,
                "efficiency with": efficiency(costs, tasks, workers, replicas),
                "bottleneck with": bottleneck(costs, tasks, workers, replicas),
                "tasks/worker": f"{math.ceil(tasks / (workers // replicas))}",
                "enough GPUs": enough_workers(tasks, workers, replicas),
            }
        )
    return rows

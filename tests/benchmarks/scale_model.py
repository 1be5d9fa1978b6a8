"""A model of one outer step of pre-training, with constants measured here, carried to many GPUs.

    python -m tests.benchmarks.scale_model [--tasks 4] [--steps 4] [--batch 8]

Three parts, and every number says which kind it is:

* MEASURED: seconds of a task, of a checkpoint, of what a step costs besides its tasks, and of an all-reduce, with one
  and with two real worker processes (the same `learn` loop and the same all-reduce as under Ray Train, over gloo).
* PREDICTED against MEASURED: the outer step of two workers.
* ASSUMED: a GPU's task time and the network. No GPU took part; what is printed for 8, 64 and 512 GPUs is arithmetic.

The model leaves out stragglers, failures, and the start of the workers.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor

from grmp_core.learning.settings import MetaConfig
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from grmp_core.tasks.distortion_tasks import LEVELS, prepare_reference, split_references, synthesize_row
from grmp_core.tasks.task_store import write_task_file
from pipelines.configuration.pretraining import SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.pretraining.checkpoints import write_state
from pipelines.pretraining.training_loop import learn
from pipelines.runtime.console import table
from pipelines.training.checkpoints import CheckpointWriter
from tests.benchmarks.outer_step_model import (
    CLUSTERS,
    FLOAT64,
    GPU,
    PAPER_TASKS,
    VIEW_PX,
    Costs,
    all_reduce_s,
    bottleneck,
    efficiency,
    outer_step,
    projection,
)
from tests.benchmarks.rows import Row

# --- measured here -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Medians over the outer steps of one run, by rank 0."""

    step_s: float
    reduce_s: float
    checkpoint_s: float
    prompt_values: int


def measure(config: Config, workers: int) -> Measured:
    """Outer steps of `workers` real processes, each with one thread."""
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    with tempfile.NamedTemporaryFile() as meeting:
        arguments = (workers, f"file://{meeting.name}.store", config, queue)
        torch.multiprocessing.spawn(_worker, args=arguments, nprocs=workers)
    return queue.get()


def _worker(rank: int, workers: int, meeting: str, config: Config, queue: SimpleQueue[Measured]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    reduces: list[float] = []
    checkpoints: list[float] = []
    marks: list[float] = []
    values: list[int] = []

    def reduce(flat: Tensor) -> None:
        began = time.perf_counter()
        torch.distributed.all_reduce(flat)
        reduces.append(time.perf_counter() - began)
        values.append(flat.numel())

    def save(state: Any, history: Any) -> None:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write_state(locate(folder), state, history)
        checkpoints.append(time.perf_counter() - began)

    with CheckpointWriter(save) as writer:

        def mark(state: Any, history: Any) -> None:
            marks.append(time.perf_counter())
            writer.write(state, history)

        learn(config, None, torch.device("cpu"), None, mark, rank=rank, world_size=workers, reduce=reduce)
    steps = [later - earlier for earlier, later in itertools.pairwise(marks)]
    if rank == 0:
        middle = statistics.median
        queue.put(Measured(middle(steps), middle(reduces[1:]), middle(checkpoints[1:]), values[0]))
    torch.distributed.destroy_process_group()


def measure_all_reduce(values: Sequence[int], repeats: int = 20) -> list[float]:
    """Median seconds of an all-reduce between two processes that do nothing else, by size."""
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    with tempfile.NamedTemporaryFile() as meeting:
        arguments = (f"file://{meeting.name}.store", tuple(values), repeats, queue)
        torch.multiprocessing.spawn(_reduce_only, args=arguments, nprocs=2)
    return queue.get()


def _reduce_only(rank: int, meeting: str, values: Sequence[int], repeats: int, queue: SimpleQueue[list[float]]) -> None:
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    medians = []
    for count in values:
        flat, seconds = torch.zeros(count, dtype=torch.float64), []
        for _ in range(repeats):
            torch.distributed.barrier()
            began = time.perf_counter()
            torch.distributed.all_reduce(flat)
            seconds.append(time.perf_counter() - began)
        medians.append(statistics.median(seconds))
    if rank == 0:
        queue.put(medians)
    torch.distributed.destroy_process_group()


def line_through(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float]:
    """-> (slope, value at 0), neither below zero: noise may tilt a line."""
    slope = max(0.0, (y2 - y1) / (x2 - x1))
    return slope, max(0.0, y1 - slope * x1)


def measured_costs(config: Config, all_tasks: int, here: dict[int, Measured]) -> Costs:
    """From one worker's steps with half and with all of the tasks, and all-reduces of two sizes."""
    half = all_tasks // 2
    learn_s, fixed_s = line_through(
        half,
        here[half].step_s,
        all_tasks,
        here[all_tasks].step_s,
    )
    small, large = 1000, 1_000_000
    small_s, large_s = measure_all_reduce((small, large))
    per_value, base = line_through(small, small_s, large, large_s)
    return Costs(
        learn_s=learn_s,
        read_s=0.0,  # the slope of the line holds it
        task_bytes=_task_bytes(config.meta),
        storage_bytes_per_s=math.inf,  # one machine's page cache
        prompt_values=here[all_tasks].prompt_values,
        link_bytes_per_s=FLOAT64 / per_value if per_value else math.inf,
        latency_s=base / 2,
        checkpoint_s=here[all_tasks].checkpoint_s,
        checkpoint_every=1,
        fixed_s=fixed_s,
        batch_size=config.meta.batch_size,
    )


def write_store(config: Config) -> None:
    """A task store of two drawn references; big enough for any batch, since rows may repeat."""
    names = [scenes.reference_id(i) for i in range(2)]
    parts = split_references(names, 0.5, config.seed)
    pristine = [prepare_reference(scenes.reference(i), VIEW_PX, 384) for i in range(2)]
    for task in config.synthesize.tasks:
        rows = [
            synthesize_row(picture, name, parts[name], task, level, VIEW_PX, config.seed)
            for picture, name in zip(pristine, names, strict=True)
            for level in LEVELS
        ]
        write_task_file(locate(config.output) / "tasks" / f"task={task}" / "part-00000.parquet", rows, VIEW_PX)


def _task_bytes(meta: MetaConfig) -> float:
    return 2 * meta.inner_steps * meta.batch_size * 3 * VIEW_PX**2


@dataclass(frozen=True)
class Here:
    """Of the outer step, as measured on this machine."""

    costs: Costs
    one: Measured
    two: Measured
    """With two workers."""


def measured_here(tasks: int, steps: int, batch: int) -> Here:
    names = ("gaussian_blur", "white_noise", "jpeg", "pixelate")[:tasks]
    with tempfile.TemporaryDirectory() as folder:
        whole = Config(
            output=folder,
            synthesize=SynthesizeConfig(tasks=names, references=2),
            meta=MetaConfig(outer_steps=steps, batch_size=batch),
            pretrain=dataclasses.replace(Config().pretrain, checkpoint_every=1),
        )
        write_store(whole)
        halved = dataclasses.replace(whole, meta=dataclasses.replace(whole.meta, tasks_per_step=tasks // 2))
        here = {tasks: measure(whole, 1), tasks // 2: measure(halved, 1)}
        costs = measured_costs(whole, tasks, here)
        return Here(costs, here[tasks], measure(whole, 2))


def rows(quick: bool = False) -> list[Row]:
    tasks, steps, batch = (2, 2, 2) if quick else (4, 4, 8)
    here = measured_here(tasks, steps, batch)
    measured = {1: here.one.step_s, 2: here.two.step_s}
    predicted = {n: outer_step(here.costs, tasks, n).seconds for n in (1, 2, 4) if n <= tasks}
    step = f"an outer step of {tasks} tasks, workers: {{}}, per worker".format
    found = [
        Row(
            what=step(n),
            against=step(1),
            ratio=seconds[1] / seconds[n] / n,
            whose="constants measured in this run" if seconds is predicted else "own, Gloo on one machine",
            seconds=seconds[n],
            curve="workers",
            amount=n,
            modelled=seconds is predicted,
        )
        for seconds in (measured, predicted)
        for n in seconds
    ]
    return found + [
        Row(
            what=f"an outer step of {each * n} episodes on {n} GPUs, per GPU",
            against="an outer step of the same on one",
            ratio=efficiency(GPU, each * n, n),
            whose="constants of a GPU and a network are assumed",
            modelled=True,
        )
        for each in (1, 4)
        for n in CLUSTERS[1:]
    ]


def _measured_part(tasks: int, steps: int, batch: int) -> None:
    here = measured_here(tasks, steps, batch)
    costs, two = here.costs, here.two
    print(f"MEASURED here, one process, {batch} images a batch, embedded backbone, CPU:")
    print(table([{"task s": costs.learn_s, "fixed s": costs.fixed_s, "checkpoint s": costs.checkpoint_s}]))
    print(
        f"MEASURED two processes: all-reduce of {costs.prompt_values} values {1000 * two.reduce_s:.1f} ms in the step"
    )
    print(f"  (waiting for the other included), {1000 * all_reduce_s(costs, 2):.1f} ms alone by the ring formula")
    predicted = outer_step(costs, tasks, 2).seconds
    print(
        f"outer step of 2 workers, {tasks} tasks: PREDICTED {predicted:.3f} s, MEASURED {two.step_s:.3f} s "
        f"({two.step_s / predicted:.2f} x); above 1 where the processes share cores, caches or a busy machine\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4, choices=(2, 4), help="of a measured outer step")
    parser.add_argument("--steps", type=int, default=4, help="measured outer steps, the first left out")
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    _measured_part(options.tasks, options.steps, options.batch)
    print("ASSUMED, nothing of this was run:")
    print("\n".join(f"  {name} = {value:g}" for name, value in dataclasses.asdict(GPU).items()))
    print(f"\n{PAPER_TASKS} tasks a step (KADID-10k):\n{table(projection(GPU, PAPER_TASKS, CLUSTERS))}")
    print("replicas: workers that share a task by splitting its batches; `enough GPUs` are as fast as all of them")
    print("\nwith as many tasks as GPUs (more distortion types, or sets of references as tasks of their own):")
    rows = [{"GPUs": n, "efficiency": efficiency(GPU, n, n), "bottleneck": bottleneck(GPU, n, n)} for n in CLUSTERS]
    print(table(rows))


if __name__ == "__main__":
    main()

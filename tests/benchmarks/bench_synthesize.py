"""Cost of Ray Data: the task store written through it and by a bare loop, same pictures, tasks and files.

    python -m tests.benchmarks.bench_synthesize [--references 32] [--repeats 3] [--photos FOLDER]

One core each: the loop in this process, Ray Data limited to one CPU, in turn; medians. "Ray Data" is a session whose
worker has made a store before; "with Ray's start" adds starting Ray, its worker, and the worker's imports: once a run,
however many pictures it makes. Processor time is that of all processes, Ray's own included: on a machine that does
other things, trust it rather than the wall clock.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil
import ray
from ray.data import ExecutionResources

from grmp_core.storage import locate
from grmp_core.tasks.distortion_tasks import split_references
from pipelines.configuration.pretraining import SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.runtime.ray_session import ray_session
from pipelines.task_making.picture_sources import photo_references, scan_references, task_names
from pipelines.task_making.task_writer import BlockWriter, block_writer, write_blocks
from tests.benchmarks.rows import Row


def clocks() -> np.ndarray:
    """Wall time, and processor time of this process and all that it started, in seconds."""
    busy = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            busy += sum(process.cpu_times()[:2])
    return np.array([time.perf_counter(), busy])


def bare_loop(writer: BlockWriter) -> None:
    for i in range(len(writer.blocks)):
        writer.write({"id": i})


def through_ray(writer: BlockWriter) -> None:
    options = ray.data.DataContext.get_current().execution_options
    options.resource_limits = ExecutionResources.for_limits(cpu=1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        write_blocks(writer)


def write_store(config: Config, write: Callable[[BlockWriter], None]) -> None:
    """One whole store in a folder that goes away again."""
    usable = photo_references(config) if config.synthesize.path else scan_references(config)[0]
    parts = split_references([reference.reference_id for reference in usable], 0.2, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        write(block_writer(config, usable, parts, locate(folder)))


def compare(config: Config, repeats: int) -> dict[str, np.ndarray]:
    """Way -> median (wall, processor) seconds. The ways take turns, so that a slow minute hits all of them."""
    seconds: dict[str, list[np.ndarray]] = defaultdict(list)
    write_store(config, bare_loop)  # imports and noise tables
    for _ in range(repeats):
        start = clocks()
        write_store(config, bare_loop)
        seconds["bare loop"].append(clocks() - start)
        start = clocks()
        with ray_session():
            write_store(config, through_ray)
            first = clocks()
            write_store(config, through_ray)
            seconds["Ray Data"].append(clocks() - first)
        seconds["with Ray's start"].append(first - start)
    return {way: np.median(times, axis=0) for way, times in seconds.items()}


def rows(quick: bool = False) -> list[Row]:
    cv2.setNumThreads(1)
    references = 4 if quick else 16
    tasks = ("jpeg",) if quick else ()
    config = Config(synthesize=SynthesizeConfig(references=references, tasks=tasks))
    medians = compare(config, 1 if quick else 2)
    images = 5 * len(task_names(config)) * references
    return [
        Row(
            what=f"a task store of {images} images, {way}, CPU time",
            against="a bare loop",
            ratio=float(medians["bare loop"][1] / times[1]),
            whose="own loop, of the cost that Ray Data adds",
            seconds=float(times[1]),
        )
        for way, times in medians.items()
        if way != "bare loop"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="folder of photos; default: drawn pictures")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = {"source": "photos", "path": str(options.photos)} if options.photos else {"source": "procedural"}
    config = Config(synthesize=SynthesizeConfig(references=options.references, **source))
    images = 5 * len(task_names(config)) * options.references
    medians = compare(config, options.repeats)
    print(f"{images} images of {options.references} references, medians of {options.repeats}")
    print(f"{'':<20}{'wall s':>8}{'images/s':>10}{'over':>9}{'cpu s':>10}{'images/s':>10}{'over':>9}")
    for way, times in medians.items():
        over = 100 * (times / medians["bare loop"] - 1)
        cells = (f"{t:>{w}.1f}{images / t:>10.0f}{o:>+8.1f}%" for t, o, w in zip(times, over, (8, 10), strict=True))
        print(f"{way:<20}{''.join(cells)}")


if __name__ == "__main__":
    main()

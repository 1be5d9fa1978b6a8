"""Scoring a folder from end to end against the bare forward pass, in one run.

    python -m tests.benchmarks.bench_scoring [--images FOLDER] [--count 300] [--rounds 2] [--model backbone] [--no-ray]
        [--cpus CPUS]

The bare forward has one thread a CPU, which take prepared views of a few images again and again. The two ways of
`grmp score` list, read, decode, score, and write the same photos: in the command's own process, and by Ray Data, with
and without the start of Ray (--no-ray leaves it out). Half of the bare forward is run before the others and half after;
medians, and ratios to the bare forward of the same run. Without --images, drawn photos of 512 x 384 as JPEG. With
--cpus, every way scores on that many CPUs; what the machine has beside them decodes, in one process, and runs Ray's
other processes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import torch

from grmp_core.model.scorer import Scorer
from grmp_core.procedural import scenes
from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.runtime.kept_memory import keep_freed_memory
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring.model_lookup import open_model
from pipelines.scoring.scoring_run import score_images
from tests.benchmarks.rows import Row, compared, interleaved

PREPARED = 32
BARE = "bare forward"


def drawn_photos(folder: Path, count: int) -> list[str]:
    paths = [folder / f"{i:04}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), scenes.reference(i % 100, 384, 512)[..., ::-1])
    return [str(path) for path in paths]


def bare_forward(config: Config, paths: list[str], cpus: int, count: int) -> Callable[[], None]:
    """The forward passes of `count` images, on prepared views of the first few."""
    model, bundle = open_model(config)
    scorer = Scorer(bundle, model, batch_size=config.score.batch_size)
    views = [scorer.views_of(path) for path in paths[:PREPARED]]

    def run() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with ThreadPoolExecutor(cpus) as pool:
            for _ in pool.map(scorer.score_views, itertools.islice(itertools.cycle(views), count)):
                pass
        torch.set_num_threads(threads)

    return run


def every_way(
    paths: list[str], folder: str, model: str, rounds: int, *, ray: bool = True, cpus: int = 0
) -> tuple[dict[str, float], int]:
    """Median seconds of the bare forward and of both ways of `grmp score`, and the CPUs.

    cpus: that score; 0: all of the machine.
    """
    if cpus:
        torch.set_num_threads(cpus)

    def config(local_images: int) -> Config:
        score = {"images": paths, "model": model, "output": f"{folder}/scores.parquet", "workers": cpus}
        given = {f"score.{key}": value for key, value in {**score, "local_images": local_images}.items()}
        return load_config(None, [], {**given, "output": folder})

    before, after = f"{BARE}, first half", f"{BARE}, second half"
    keep_freed_memory()  # for the bare forward, too: the others set it
    here, spread = config(len(paths)), config(0)
    threads, half = torch.get_num_threads(), len(paths) // 2
    ways = {before: bare_forward(here, paths, threads, half), "in one process": lambda: score_images(here)}
    if ray:
        ways["Ray Data, with its start"] = lambda: score_images(spread)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        once = interleaved(ways, 1, warm=False)
        if ray:
            with ray_session():
                once |= interleaved({"Ray Data, started before": lambda: score_images(spread)}, 1, warm=False)
        once |= interleaved({after: bare_forward(here, paths, threads, len(paths) - half)}, 1, warm=False)
        once = {BARE: once.pop(before) + once.pop(after)} | once
        for name, value in once.items():
            seconds[name].append(value)
    return {name: statistics.median(values) for name, values in seconds.items()}, threads


def rows(quick: bool = False) -> list[Row]:
    count = 4 if quick else 300
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = every_way(drawn_photos(Path(folder), count), folder, "backbone", 1 if quick else 2)
    whose = "own model, its bare forward pass on views that are ready"
    texts = {name: f"`grmp score` of {count} photos, {name}" for name in seconds if name != BARE}
    seconds = {texts.get(name, name): value for name, value in seconds.items()}
    return [compared(seconds, text, BARE, whose=whose) for text in texts.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="backbone")
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--cpus", type=int, default=0, help="that score (default: all of the machine)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        if options.images is None:
            paths = drawn_photos(photos, options.count)
        else:
            paths = [str(path) for path in sorted(options.images.glob("*.[jJ][pP]*[gG]"))[: options.count]]
        how = {"ray": not options.no_ray, "cpus": options.cpus}
        seconds, cpus = every_way(paths, folder, options.model, options.rounds, **how)
    rate = {name: len(paths) / value for name, value in seconds.items()}
    print(f"{len(paths)} photos, {cpus} CPUs, model {options.model}, median of {options.rounds} rounds")
    for name, value in rate.items():
        print(f"  {name:<26} {value:7.2f} images/s  {value / rate[BARE]:5.2f}")


if __name__ == "__main__":
    main()

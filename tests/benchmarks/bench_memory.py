"""Scoring, distortions and an outer step with `keep_freed_memory` and without, and the pages that the system clears.

    python -m tests.benchmarks.bench_memory [--images 40] [--rounds 3]

Each way has processes of its own, which take turns: the setting cannot be taken back. One thread, the embedded
backbone, nine views of an image of 512 x 384; KADID-10k's 25 types at five levels, of a picture of that size; an outer
step has two tasks of eight pictures.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import cv2
import torch

from grmp_core.distortions import KADID_NAMES
from grmp_core.model.scorer import Scorer
from grmp_core.procedural import scenes
from pipelines.configuration.loading import load_config
from pipelines.runtime.kept_memory import keep_freed_memory
from pipelines.scoring.model_lookup import open_model
from tests.benchmarks.bench_distortions import milliseconds_of
from tests.benchmarks.growth import of_tasks
from tests.benchmarks.rows import Row, compared
from tests.benchmarks.serving import pictures

KEPT, GIVEN_BACK = "freed memory kept", "given back, as glibc does"
SCORING, DISTORTING, OUTER_STEP = "scoring an image", "25 x 5 distortions", "an outer step"
PAGES = "cleared pages of a scored image"


def measure_here(way: str, images: int) -> dict[str, float]:
    """Seconds of each piece of work in this process, processor time for distortions, and pages that the system cleared
    for an image."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if way == KEPT:
        keep_freed_memory()
    model, bundle = open_model(load_config(None, ["score.model=backbone"]))
    scorer, photos = Scorer(bundle, model), pictures()
    scorer.score(photos[:2])
    pages, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    scorer.score(photos[i % len(photos)] for i in range(images))
    seconds = time.perf_counter() - began
    cleared = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages
    picture = scenes.reference(0, 384, 512)
    distorting = 5 * sum(milliseconds_of(name, picture, 3)[0] for name in KADID_NAMES) / 1000
    outer_step = of_tasks([2], images // 8 + 1, 8)[2]
    return {SCORING: seconds / images, PAGES: cleared / images, DISTORTING: distorting, OUTER_STEP: outer_step}


def measured(images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Work (or `PAGES`) -> way -> median."""
    found: dict[str, list[dict[str, float]]] = {GIVEN_BACK: [], KEPT: []}
    for _ in range(rounds):
        for way, results in found.items():
            command = [sys.executable, "-m", "tests.benchmarks.bench_memory", "--images", str(images), "--child", way]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results.append(json.loads(out.splitlines()[-1]))
    return {
        what: {way: statistics.median(result[what] for result in results) for way, results in found.items()}
        for what in (SCORING, DISTORTING, OUTER_STEP, PAGES)
    }


def rows(quick: bool = False) -> list[Row]:
    found = measured(2, 1) if quick else measured(40, 3)
    return [
        compared(
            {f"{work}, {way}": seconds for way, seconds in found[work].items()},
            f"{work}, {KEPT}",
            f"{work}, {GIVEN_BACK}",
            whose="own, without that setting",
        )
        for work in (SCORING, DISTORTING, OUTER_STEP)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=(KEPT, GIVEN_BACK), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure_here(options.child, options.images)))
        return
    for what, ways in measured(options.images, options.rounds).items():
        unit, of_both = ("", "") if what == PAGES else (" s", f"  {ways[GIVEN_BACK] / ways[KEPT]:.2f} x")
        print(f"{what}: {ways[GIVEN_BACK]:.3f}{unit} {GIVEN_BACK}, {ways[KEPT]:.3f}{unit} kept{of_both}")


if __name__ == "__main__":
    main()

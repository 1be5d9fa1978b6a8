"""Throughput of the distortions on one core: `python -m tests.benchmarks.bench_distortions [--image PHOTO]`.

Processor time, library threads off, median of repeats. A line a type (mean of its five levels), then whole grids: all
25 KADID-10k types at 5 levels, the 24 x 5 grid that published Python generators make (without colour quantization and
denoising; their second contrast type costs what the first does), and everything that is registered.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from grmp_core.distortions import KADID_NAMES, REGISTRY, get
from grmp_core.imaging.decoding import read_image
from grmp_core.procedural.scenes import reference

SIZES = ((384, 512), (224, 224))
LEVELS = (1, 2, 3, 4, 5)
PEER_GRID = (*(name for name in KADID_NAMES if name not in ("colour_quantization", "denoise")), "contrast")


def milliseconds_of(name: str, image: np.ndarray, repeats: int) -> float:
    """Mean over levels of the median processor time of one distortion, ms."""
    distortion = get(name)
    distortion(image, 3, np.random.default_rng(0))  # the noise tables are made once a process
    per_level = []
    for level in LEVELS:
        times = []
        for repeat in range(repeats):
            rng = np.random.default_rng(repeat)
            start = time.process_time()
            distortion(image, level, rng)
            times.append(time.process_time() - start)
        per_level.append(statistics.median(times))
    return 1000 * statistics.fmean(per_level)


def measure(photo: np.ndarray, repeats: int) -> dict[str, dict[str, float]]:
    """Size -> type -> ms an image."""
    result = {}
    for height, width in SIZES:
        image = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        result[f"{width}x{height}"] = {name: milliseconds_of(name, image, repeats) for name in REGISTRY}
    return result


def images_a_second(times_ms: dict[str, float], names: Sequence[str]) -> float:
    return 1000 * len(names) / sum(times_ms[name] for name in names)


def print_table(times: dict[str, dict[str, float]]) -> None:
    sizes = list(times)
    print(f"{'type':<30}" + "".join(f"{size + ' ms':>14}{'images/s':>10}" for size in sizes))
    for name in REGISTRY:
        cells = "".join(f"{times[size][name]:>14.2f}{1000 / times[size][name]:>10.0f}" for size in sizes)
        print(f"{name:<30}{cells}")
    grids = {"25 x 5 grid (KADID-10k)": KADID_NAMES, "24 x 5 grid (peers')": PEER_GRID, "36 x 5 (all)": tuple(REGISTRY)}
    for title, names in grids.items():
        print(f"{title:<30}" + "".join(f"{'':>14}{images_a_second(times[size], names):>10.0f}" for size in sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, help="a photo; default: a procedural reference")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    photo = read_image(arguments.image) if arguments.image else reference(0)
    times = measure(photo, arguments.repeats)
    if arguments.json:
        print(json.dumps(times))
    else:
        print_table(times)


if __name__ == "__main__":
    main()

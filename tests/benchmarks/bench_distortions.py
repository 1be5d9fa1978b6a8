"""Throughput of the distortions on one core: `python -m tests.benchmarks.bench_distortions [--image PHOTO]`.

Processor time, library threads off, median of repeats. A line a type (mean of its five levels), then whole grids: all
25 KADID-10k types at 5 levels, the 24 x 5 grid that published Python generators make (without colour quantization and
denoising; their second contrast type costs what the first does), and everything that is registered. In the one table
of all benchmarks, those types that `plain_distortions` has stand beside it.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from grmp_core.distortions import KADID_NAMES, REGISTRY, get
from grmp_core.imaging.decoding import read_image
from grmp_core.procedural.scenes import reference
from pipelines.runtime.kept_memory import keep_freed_memory
from tests.benchmarks.plain_distortions import PLAIN, Plain
from tests.benchmarks.rows import Row, interleaved

SIZES = ((384, 512), (224, 224))
LEVELS = (1, 2, 3, 4, 5)
PEER_GRID = (*(name for name in KADID_NAMES if name not in ("colour_quantization", "denoise")), "contrast")


def milliseconds_of(name: str, image: np.ndarray, repeats: int, other: Mapping[str, Plain] | None = None) -> np.ndarray:
    """Mean over levels of the median processor time of one distortion, and of its namesake in `other`, ms."""
    distortion = get(name)
    distortion(image, 3, np.random.default_rng(0))  # the noise tables are made once a process
    per_level = []
    for level in LEVELS:
        ways: dict[str, Callable[[], object]] = {"own": partial(distortion, image, level, np.random.default_rng(0))}
        if other is not None:
            ways["other"] = partial(other[name], image, distortion.parameter(level), np.random.default_rng(0))
        per_level.append(list(interleaved(ways, repeats, time.process_time, warm=other is not None).values()))
    return 1000 * np.mean(per_level, axis=0)


def measure(photo: np.ndarray, repeats: int) -> dict[str, dict[str, float]]:
    """Size -> type -> ms an image."""
    result = {}
    for height, width in SIZES:
        image = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        result[f"{width}x{height}"] = {name: float(milliseconds_of(name, image, repeats)[0]) for name in REGISTRY}
    return result


def rows(quick: bool = False) -> list[Row]:
    keep_freed_memory()  # as workers do; for the others, too
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # colours that RGB does not have; a warning a picture
    found, names = [], tuple(PLAIN)[:3] if quick else tuple(PLAIN)
    for height, width in SIZES[1:] if quick else SIZES:
        image = cv2.resize(reference(0), (width, height), interpolation=cv2.INTER_AREA)
        ms = {name: milliseconds_of(name, image, 1 if quick else 5, PLAIN) for name in names}
        parts = {f"{len(names)} x 5 distortions": names, **({"JPEG 2000 alone": ("jpeg2000",)} if not quick else {})}
        for title, chosen in parts.items():
            own, plain = 5 * sum(ms[name] for name in chosen) / 1000
            found.append(
                Row(
                    what=f"{title}, {width} x {height}",
                    against="the same kinds in plain scikit-image, SciPy, Pillow",
                    ratio=plain / own,
                    whose="stand-in for published Python generators, which are not run",
                    seconds=own,
                )
            )
    return found


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
    keep_freed_memory()  # as workers do; for the others, too
    cv2.setNumThreads(1)
    photo = read_image(arguments.image) if arguments.image else reference(0)
    times = measure(photo, arguments.repeats)
    if arguments.json:
        print(json.dumps(times))
    else:
        print_table(times)


if __name__ == "__main__":
    main()

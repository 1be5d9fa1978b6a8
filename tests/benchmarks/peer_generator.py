"""The distortions beside those of ARNIQA (github.com/miccunifi/ARNIQA, Apache-2.0), whose authors' code is run.

    git clone https://github.com/miccunifi/ARNIQA
    pip install kornia dotmap
    python -m tests.benchmarks.peer_generator ARNIQA [--image PHOTO] [--repeats 3]

One core, library threads off, processor time, both in turns in one run: 24 types at 5 levels, each with its own levels.
The peer takes and gives float tensors, this project uint8 arrays; neither conversion is counted. A type that the peer's
code cannot make with the installed packages is left out on both sides, and named.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

from grmp_core.distortions import get
from grmp_core.imaging.decoding import read_image
from grmp_core.procedural.scenes import reference
from pipelines.runtime.kept_memory import keep_freed_memory
from tests.benchmarks.bench_distortions import LEVELS, SIZES
from tests.benchmarks.rows import interleaved

NAMESAKES = (
    ("gaussian_blur", "gaublur"),
    ("lens_blur", "lensblur"),
    ("motion_blur", "motionblur"),
    ("colour_diffusion", "colordiff"),
    ("colour_shift", "colorshift"),
    ("saturation_hsv", "colorsat1"),
    ("saturation_lab", "colorsat2"),
    ("jpeg2000", "jpeg2000"),
    ("jpeg", "jpeg"),
    ("white_noise", "whitenoise"),
    ("white_noise_ycbcr", "whitenoiseCC"),
    ("impulse_noise", "impulsenoise"),
    ("multiplicative_noise", "multnoise"),
    ("brighten", "brighten"),
    ("darken", "darken"),
    ("mean_shift", "meanshift"),
    ("jitter", "jitter"),
    ("non_eccentricity_patch", "noneccpatch"),
    ("pixelate", "pixelate"),
    ("quantization", "quantization"),
    ("colour_block", "colorblock"),
    ("sharpen", "highsharpen"),
    ("contrast", "lincontrchange"),
    ("contrast", "nonlincontrchange"),
)
"""Type here, and the peer's name of it. Its two types of contrast are one here."""


def peer_of(clone: Path) -> ModuleType:
    """The module with the peer's distortions and their levels; SystemExit where there is none or it lacks a package."""
    sys.path.insert(0, str(clone))
    try:
        from utils import utils_data  # type: ignore[import-not-found]
    except ImportError as error:
        raise SystemExit(f"'{clone}' is no clone of ARNIQA, or a package that it needs is missing: {error}") from error
    return utils_data


def measure(peer: ModuleType, image: np.ndarray, repeats: int) -> dict[str, tuple[float, float]]:
    """The peer's name of a type -> ms an image here and there, means over the levels."""
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    found = {}
    for own, theirs in NAMESAKES:
        distortion, function = get(own), peer.distortion_functions[theirs]
        distortion(image, 3, np.random.default_rng(0))  # tables are made once a process
        try:
            function(tensor.clone(), peer.distortion_range[theirs][0])
        except (IndexError, TypeError, ValueError, RuntimeError) as error:
            print(f"left out: {theirs}, which fails there ({type(error).__name__})")
            continue
        per_level = []
        for level, value in zip(LEVELS, peer.distortion_range[theirs], strict=True):
            ways = {
                "here": partial(distortion, image, level, np.random.default_rng(0)),
                "there": partial(function, tensor.clone(), value),
            }
            per_level.append(list(interleaved(ways, repeats, time.process_time).values()))
        here, there = 1000 * np.mean(per_level, axis=0)
        found[theirs] = float(here), float(there)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, metavar="ARNIQA")
    parser.add_argument("--image", type=Path, help="a photo; default: a procedural reference")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()  # as workers do; for the peer, too
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    peer, photo = peer_of(options.clone), read_image(options.image) if options.image else reference(0)
    for height, width in SIZES:
        times = measure(peer, cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), options.repeats)
        print(f"{width} x {height}: ms an image here and there")
        for name, (here, there) in times.items():
            print(f"  {name:<20}{here:9.2f}{there:9.2f}{there / here:8.1f} x")
        here, there = np.sum(list(times.values()), axis=0)
        rates = f"{1000 * len(times) / here:.0f} and {1000 * len(times) / there:.1f} images/s"
        print(f"  all {len(times)} x {len(LEVELS)}: {rates}, {there / here:.1f} x", flush=True)


if __name__ == "__main__":
    main()

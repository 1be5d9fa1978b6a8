"""The image tower of grmp-nano against the first one of that name, a ViT of width 192, on one thread.

    python -m tests.benchmarks.tower_speed [--repeats 15]

Nine views of 224 px, in float32 and bfloat16; random weights, which take as long. The towers take turns; medians of
processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import open_clip
import torch

from grmp_core.model import backbone  # noqa: F401  # makes grmp-nano known to open_clip
from grmp_core.model.settings import EMBEDDED
from grmp_core.model.vision_tower import VisionTower, open_vision_tower
from pipelines.runtime.computing import prepare_to_compute

FIRST = "first-grmp-nano"
FIRST_CONFIG = {
    "embed_dim": 192,
    "vision_cfg": {
        "image_size": 224,
        "patch_size": 16,
        "width": 192,
        "layers": 6,
        "head_width": 64,
        "pool_type": "avg",
        "no_ln_pre": True,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}
VIEWS = 9


def tower(name: str, dtype: torch.dtype) -> VisionTower:
    return open_vision_tower(open_clip.create_model(name, load_weights=False).eval().to(dtype))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    prepare_to_compute()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{FIRST}.json").write_text(json.dumps(FIRST_CONFIG))
        open_clip.add_model_config(folder)
    views = torch.randn(VIEWS, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16):
        towers = {name: tower(name, dtype) for name in (FIRST, EMBEDDED)}
        seconds: dict[str, list[float]] = defaultdict(list)
        with torch.inference_mode():
            for repeat in range(options.repeats + 1):
                for name, own in towers.items():
                    begun = time.process_time()
                    own.pool(own.run(own.embed(views.to(dtype)), None, 0))
                    if repeat:  # the first pass makes the kernels
                        seconds[name].append(time.process_time() - begun)
        first, now = (statistics.median(seconds[name]) for name in (FIRST, EMBEDDED))
        rates = f"{VIEWS / first:.0f} and {VIEWS / now:.0f} views/s"
        print(f"{str(dtype).removeprefix('torch.')}: {rates}, {first / now:.2f} x")


if __name__ == "__main__":
    main()

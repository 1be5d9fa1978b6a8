"""Encoding a target for the arms of an ablation: one pass for each against one pass for all, in one run.

    python -m tests.benchmarks.bench_encoding [--images FOLDER] [--count 40] [--set KEY=VALUE]

CPU seconds of this process, and bytes of an image's tokens, for the starts of `grmp ablate` that differ: random prompts
with 0, 2 and 4 blocks that adapt, other prompts with the same, and none. Without --images, drawn pictures of 512 x 384.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipelines.ablation.arms import BLOCKS, random_prompts
from pipelines.configuration.loading import load_config, with_settings
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import Start, prefix_of
from pipelines.few_shot.target_encoder import Encoder
from tests.benchmarks.bench_scoring import drawn_photos
from tests.benchmarks.rows import Row, compared, interleaved

EACH, ALL = "one pass for each", "one pass for all"


def starts_of(config: Config) -> list[Start]:
    """Those of `grmp ablate` that differ."""
    starts: list[Start] = []
    for seed in (0, 1):
        own = [with_settings(config, {"adapt.trainable.vision_blocks": blocks}) for blocks in BLOCKS]
        prompts = random_prompts(dataclasses.replace(config, seed=seed))
        starts += [(one, prompts) for one in own]
    plain = with_settings(config, {"prompts.visual_tokens": 0, "adapt.trainable.vision_blocks": 0})
    return [*starts, (plain, random_prompts(plain))]


def passes(starts: list[Start], paths: list[str]) -> tuple[dict[str, float], int]:
    """CPU seconds of both ways, and bytes of an image's tokens for one start."""
    torch.set_num_threads(1)
    parts = [(prefix_of(*start), False) for start in starts]
    rows = {"row": np.arange(len(paths)), "path": np.array(paths)}
    encoders = {EACH: [Encoder(*starts[0], [part]) for part in parts], ALL: [Encoder(*starts[0], parts)]}
    encoders[ALL][0]({key: values[:2] for key, values in rows.items()})  # what is done once a process

    def run(name: str) -> Callable[[], object]:
        return lambda: [encoder(rows) for encoder in encoders[name]]

    seconds = interleaved({name: run(name) for name in encoders}, 1, time.process_time, warm=False)
    output = encoders[EACH][0]({key: values[:1] for key, values in rows.items()})
    return seconds, sum(output[key][0].nbytes for key in ("train_tokens_0", "score_tokens_0"))


def rows(quick: bool = False) -> list[Row]:
    config, count = load_config(None), 1 if quick else 12
    starts = starts_of(config)[:2] if quick else starts_of(config)
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = passes(starts, drawn_photos(Path(folder), count))
    what = f"encoding {count} images for {len(starts)} arms, {ALL}"
    seconds[what] = seconds[ALL]
    return [compared(seconds, what, EACH, whose="own, as every arm alone would do it")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    config = load_config(None, options.set, {})
    starts = starts_of(config)
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            paths = drawn_photos(Path(folder), options.count)
        else:
            paths = [str(path) for path in sorted(options.images.glob("*.*"))[: options.count]]
        seconds, bytes_per_image = passes(starts, paths)
    print(f"{len(paths)} images, {len(starts)} starts, {config.backbone.name}, {config.precision}")
    for name, value in seconds.items():
        print(f"  {name:<18} {value:7.1f} CPU s  {seconds[EACH] / value:5.2f} x")
    print(f"  tokens of an image for one start: {bytes_per_image / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

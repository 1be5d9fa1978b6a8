"""Train the embedded backbone from photos: `grmp train_backbone --photos DIR ... --minutes 40 --out DIR`.

This process trains, or `--train-workers N` of Ray Train do, each on batches of its own with one all-reduce of the
gradients a step; other processes make the batches. The run is stopped and resumed at will: `OUT/checkpoint.pt` is
written every few minutes, and the same command goes on from it. `OUT/weights.safetensors` always holds the averaged
weights so far in half precision, as the package's assets want them. `--measure WEIGHTS` trains nothing and prints what
weights can do.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text
from pipelines.backbone_training.loop import Rank, check_recipe, log, recipe_of, train, train_on_workers
from pipelines.backbone_training.measurements import measure


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    torch.set_num_threads(options.threads)
    try:
        if options.measure:
            print(json_text(measure(options.measure, options.photos, options.livec), indent=2))
        else:
            check_recipe(Path(options.out) / "checkpoint.pt", recipe_of(options))
            if options.train_workers:
                train_on_workers(options)
            else:
                train(options, Rank())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="grmp train_backbone", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--photos", nargs="+", required=True, metavar="DIR", help="folders of pristine photos")
    parser.add_argument("--out", default="backbone", help="checkpoint and weights go here (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=120, help="length of the run (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="length of the run in steps instead; reproducible on any machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--start-from", metavar="WEIGHTS", help="go on from these weights instead of random ones")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument(
        "--procedural", type=int, default=150, help="drawn references beside photos (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        default="bf16",
        help="of forward and backward (default: %(default)s; fp32 where a CPU has no units for bf16)",
    )
    parser.add_argument("--threads", type=int, default=2, help="of a training process")
    parser.add_argument("--train-workers", type=int, default=0, help="training processes of Ray Train; 0: this one")
    parser.add_argument("--gpus-per-worker", type=float, default=0, help="of a Ray Train worker")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches, for each that trains")
    parser.add_argument("--checkpoint-minutes", type=float, default=4)
    parser.add_argument("--measure", metavar="WEIGHTS", help="train nothing; print what these weights can do")
    parser.add_argument("--livec", metavar="DIR", help="with --measure: ChallengeDB_release, never trained on")
    options = parser.parse_args(arguments)
    for name in ("minutes", "steps", "batch_size", "threads", "workers", "checkpoint_minutes"):
        if vars(options)[name] is not None and not vars(options)[name] > 0:
            parser.error(f"--{name.replace('_', '-')} {vars(options)[name]}: use more than 0")
    return options


if __name__ == "__main__":
    sys.exit(main())

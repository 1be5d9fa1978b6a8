"""Train the embedded backbone: `grmp train_backbone prepare | train | measure`.

`prepare` decodes photos once and asks the ImageNet classifier about them; `train` trains and is resumed by the same
command; `measure` prints what weights can do. Several training processes: `--train-workers 2` (Ray Train), or
`torchrun --nproc-per-node 2 -m pipelines.train_backbone train ...` on one machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from torch import distributed

from grmp_core.datasets import load as load_dataset
from grmp_core.errors import InputError
from grmp_core.nano.material import prepare, read_material, sources_of
from grmp_core.nano.photo_store import SourcePhoto
from grmp_core.strict_json import json_text
from pipelines.backbone_training.loop import RunConfig, train
from pipelines.backbone_training.measurements import measure_held_out, measure_target, open_weights
from pipelines.backbone_training.options import parse


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments, __doc__.split("\n", 1)[0])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("grmp").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    try:
        {"prepare": _prepare, "train": _train, "measure": _measure}[options.command](options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _prepare(options: argparse.Namespace) -> None:
    if options.livec:
        table = load_dataset("livec", options.livec, max_reject_fraction=1.0).table
        paths, scores = table["image_path"].to_pylist(), table["mos"].to_pylist()
        photos = [SourcePhoto(path=Path(p), source="livec", score=s) for p, s in zip(paths, scores, strict=True)]
    elif options.scores and options.rated_photos:
        pristine = map(Path, options.pristine)
        photos = sources_of(Path(options.scores), Path(options.rated_photos), pristine, options.subsets)
    else:
        raise InputError("nothing to prepare: give --scores and --rated-photos, or --livec")
    unreadable = prepare(Path(options.material), photos, Path(options.start_weights))
    print(f"{len(photos) - len(unreadable)} photos in {options.material}; unreadable: {unreadable or 'none'}")


def _train(options: argparse.Namespace) -> None:
    config = RunConfig(**{f.name: vars(options)[f.name] for f in fields(RunConfig)})
    if options.train_workers:
        from pipelines.backbone_training.ray_workers import train_on_workers

        train_on_workers(config, options.train_workers)
    elif "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
        train(config)
        distributed.destroy_process_group()
    else:
        train(config)


def _measure(options: argparse.Namespace) -> None:
    backbone, material = open_weights(options.weights, options.precision), read_material(Path(options.material))
    for target in options.target:
        name, folder = target.split("=", 1)
        print(json_text(measure_target(backbone, material, Path(folder), name, Path(options.ledger))))
    if not options.target:
        print(json_text(measure_held_out(backbone, material, options.pictures), indent=2))


if __name__ == "__main__":
    sys.exit(main())

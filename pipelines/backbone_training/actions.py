"""The actions of `grmp train_backbone`, from its parsed options to its output."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path

from torch import distributed

from grmp_core.errors import InputError
from grmp_core.nano.material import RATED_SUBSETS, photos_of, prepare, read_material, sources_of, write_hashes
from grmp_core.strict_json import json_text
from pipelines.backbone_training.averaging import average_weights
from pipelines.backbone_training.domain_asset import write_domain
from pipelines.backbone_training.loop import train
from pipelines.backbone_training.measurements import measure_held_out, measure_target, open_weights
from pipelines.backbone_training.run_config import RunConfig
from pipelines.backbone_training.scene_measure import measure_scenes
from pipelines.backbone_training.target_tables import write_pseudo_target, write_target_table


def _prepare(options: argparse.Namespace) -> None:
    if options.livec:
        photos = photos_of("livec", options.livec)
    elif options.scores and options.rated_photos:
        photos = sources_of(options.scores, options.rated_photos, options.pristine, options.subsets or RATED_SUBSETS)
    else:
        raise InputError("nothing to prepare: give --scores and --rated-photos, or --livec")
    unreadable = prepare(options.material, photos, options.start_weights)
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


def _average(options: argparse.Namespace) -> None:
    average_weights(options.weights, options.out)
    print(f"mean of {len(options.weights)} runs in {options.out}")


def _measure(options: argparse.Namespace) -> None:
    backbone = open_weights(options.weights, options.precision)
    if options.scenes:
        asked = (options.scenes, options.rated_photos, options.start_weights, options.write_scenes)
        print(json_text(measure_scenes(backbone, *asked), indent=2))
        return
    material = read_material(options.material)
    for name, folder in (target.split("=", 1) for target in options.target):
        print(json_text(measure_target(backbone, material, Path(folder), name, Path(options.ledger))))
    if not options.target:
        print(json_text(measure_held_out(backbone, material, options.pictures), indent=2))


def _hashes(options: argparse.Namespace) -> None:
    print(len(write_hashes(options.material, options.out)), "photos in", options.out)


def _domain(options: argparse.Namespace) -> None:
    backbone = open_weights(options.weights, options.precision)
    domain = write_domain(backbone, read_material(options.material), options.out)
    print(f"{len(domain.references[0])} reference photos in {options.out}")


def _pseudo_target(options: argparse.Namespace) -> None:
    print(write_pseudo_target(read_material(options.material), options.change, options.out))


def _target_table(options: argparse.Namespace) -> None:
    material = read_material(options.material)
    table, left_out = write_target_table(material, options.target, options.photos, options.out)
    print(f"{table}; {left_out} photos with a neighbour in the training material are left out")


ACTIONS = {
    "prepare": _prepare,
    "train": _train,
    "average": _average,
    "measure": _measure,
    "hashes": _hashes,
    "domain": _domain,
    "pseudo-target": _pseudo_target,
    "target-table": _target_table,
}
"""By name of the command line's action; each raises InputError for bad input."""

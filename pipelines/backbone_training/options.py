"""The command line of `python -m pipelines.train_backbone`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pipelines.backbone_training.run_config import RunConfig


def parse(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """-> the options of one of the commands prepare, train, average, measure, hashes, domain, pseudo-target and
    target-table."""
    parser = argparse.ArgumentParser(prog="grmp train_backbone", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    _prepare_options(commands.add_parser("prepare", help="decode photos, ask the classifier about them"))
    _train_options(commands.add_parser("train", help="train, or go on training"))
    _average_options(commands.add_parser("average", help="write the mean of several runs' weights"))
    _measure_options(commands.add_parser("measure", help="print what weights can do"))
    _hashes_options(commands.add_parser("hashes", help="write the perceptual hashes of all training photos"))
    _domain_options(commands.add_parser("domain", help="write what images are told by that are unlike its training"))
    _pseudo_target_options(commands.add_parser("pseudo-target", help="write held-out photos to choose settings on"))
    _target_table_options(commands.add_parser("target-table", help="write a target's labels with groups of neighbours"))
    options = parser.parse_args(arguments)
    if options.command == "measure":
        scenes, photos = options.scenes is not None, options.rated_photos is not None
        if scenes != photos or scenes == (options.material is not None):
            parser.error("measure takes either --material, or --scenes and --rated-photos")
    return options


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scores", type=Path, help="BIQ2021's table of scores (columns image, mos)")
    parser.add_argument("--rated-photos", type=Path, metavar="DIR", help="BIQ2021's folder Images")
    parser.add_argument("--subsets", nargs="+", help="of BIQ2021 (default: all but the target)")
    parser.add_argument("--pristine", type=Path, nargs="*", default=[], metavar="DIR", help="bsds500 imagenet_samples")
    parser.add_argument("--livec", metavar="DIR", help="ChallengeDB_release instead, as a target")
    parser.add_argument("--start-weights", type=Path, required=True, help="EfficientNet-Lite0's .pth")
    parser.add_argument("--material", type=Path, required=True, metavar="DIR", help="where the result goes")


def _train_options(parser: argparse.ArgumentParser) -> None:
    for field in fields(RunConfig):
        kind = {"int": int, "float": float, "int | None": int}.get(str(field.type), str)
        needed = field.name in ("material", "out")
        default = None if needed else field.default
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, required=needed, default=default)
    parser.add_argument("--train-workers", type=int, default=0, help="processes of Ray Train; 0: this one")


def _average_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="exported weights (.safetensors)")
    parser.add_argument("--out", type=Path, required=True, help="where the mean goes")


def _measure_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help="exported weights (.safetensors)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--material", metavar="DIR", type=Path, help="of training: held-out photos and neighbours")
    parser.add_argument("--pictures", type=int, default=60, help="pristine photos to distort (default: %(default)s)")
    parser.add_argument("--target", nargs="*", default=[], metavar="NAME=DIR", help="instead of held-out photos")
    parser.add_argument("--ledger", default="docs/ledger.jsonl", help="a look at a target appends here")
    scenes = parser.add_argument_group("nine scenes", "instead of --material, a table of scenes and its photos")
    scenes.add_argument("--scenes", metavar="CSV", type=Path, help="columns image, scene, second")
    scenes.add_argument("--rated-photos", metavar="DIR", type=Path, help="BIQ2021's folder Images")
    scenes.add_argument("--start-weights", metavar="PTH", type=Path, help="EfficientNet-Lite0's, to compare with")
    scenes.add_argument(
        "--write-scenes", nargs="*", default=[], metavar="DIR=CSV", help="scenes of a folder of `prepare`, from them"
    )


def _hashes_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--material", type=Path, required=True, metavar="DIR", help="of training")
    parser.add_argument(
        "--out",
        type=Path,
        default="grmp_core/assets/grmp-nano.hashes.npy",
        help="what leaks into a target are found by (default: %(default)s)",
    )


def _domain_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help="exported weights (.safetensors)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--material", type=Path, required=True, metavar="DIR", help="of training")
    parser.add_argument(
        "--out",
        type=Path,
        default="grmp_core/assets/grmp-nano.domain.safetensors",
        help="made anew whenever the weights change (default: %(default)s)",
    )


def _pseudo_target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--material", type=Path, required=True, metavar="DIR", help="of training")
    parser.add_argument("--change", choices=("none", "shrunk", "jpeg"), default="shrunk", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="photos and labels.csv go there")


def _target_table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--material", type=Path, required=True, metavar="DIR", help="of training")
    parser.add_argument("--target", type=Path, required=True, metavar="DIR", help="the target's, made by prepare")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="folder of its files")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="columns image, mos, group")

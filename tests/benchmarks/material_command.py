"""The command line of measurements on the photos that the embedded backbone's training holds out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from grmp_core.strict_json import json_text


def material_parser(name: str, photos: int) -> argparse.ArgumentParser:
    """MATERIAL (the folder that `train_backbone prepare` made), --photos and --out."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{name}")
    parser.add_argument("material", type=Path)
    parser.add_argument("--photos", type=int, default=photos)
    parser.add_argument("--out", type=Path)
    return parser


def print_measure(name: str, measure: Callable[[Path, int], dict[str, object]], photos: int) -> None:
    """Print what `measure` finds as JSON, and write it to --out."""
    options = material_parser(name, photos).parse_args()
    report = json_text(measure(options.material, options.photos), indent=2)
    print(report)
    if options.out:
        options.out.write_text(report + "\n")

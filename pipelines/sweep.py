"""`grmp sweep` adapts over lambda x labels x splits, with Ray Tune."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.sweeping.sweep_run import Sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="only continue a sweep that was started here")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"sweep.resume": True} if options.resume else {}


def run(config: Config) -> Sweep:
    from pipelines.sweeping.sweep_run import run_sweep  # `--help` does without it

    return run_sweep(config)


if __name__ == "__main__":
    module_main("sweep")

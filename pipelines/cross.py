"""`grmp cross` tests the models of one labelled set's sweep on the test images of others."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.cross_sets.cross_run import Cross


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweeps", nargs="*", metavar="OUTPUT", help="outputs of two or more sweeps (cross.sweeps)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"cross.sweeps": options.sweeps} if options.sweeps else {}


def run(config: Config) -> Cross:
    from pipelines.cross_sets.cross_run import run_cross  # `--help` does without it

    return run_cross(config)


if __name__ == "__main__":
    module_main("cross")

"""`grmp inspect` looks at labelled images before anybody learns from them: scores, sizes, duplicates, leaks, splits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.inspection.inspection_run import Inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", nargs="?", metavar="TARGET", help="file or folder (target.path), or a description (.yaml)"
    )
    parser.add_argument("--write-splits", metavar="FILE", help="write a .csv of splits (inspect.write_splits)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {}
    if options.target:
        is_description = options.target.lower().endswith((".yaml", ".yml"))
        given["target.dataset" if is_description else "target.path"] = options.target
    if options.write_splits:
        given["inspect.write_splits"] = options.write_splits
    return given


def run(config: Config) -> Inspection:
    from pipelines.inspection.inspection_run import inspect_target  # `--help` does without it

    return inspect_target(config)


if __name__ == "__main__":
    module_main("inspect")

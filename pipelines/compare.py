"""`grmp compare A B` says which of two images, or of two folders of the same scenes, is better, and how surely."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.scoring.comparison_run import Compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", nargs="?", metavar="A", help="an image, or a folder (compare.first)")
    parser.add_argument("second", nargs="?", metavar="B", help="another version of it (compare.second)")
    parser.add_argument("--model", help="bundle folder or models:/name@alias (score.model)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"compare.first": options.first, "compare.second": options.second, "score.model": options.model}
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> Compared:
    from pipelines.scoring.comparison_run import compare  # `--help` does without it

    return compare(config)


if __name__ == "__main__":
    module_main("compare")

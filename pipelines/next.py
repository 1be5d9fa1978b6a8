"""`grmp next` names the images of a folder to rate next, and says how much ten labels more would bring."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.labelling.next_run import NextImages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="folder of the images (rate.folder)")
    parser.add_argument("--votes", metavar="FILE", help="the vote log (rate.votes)")
    parser.add_argument("--count", metavar="N", type=int, help="images to name (next.count)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"rate.folder": options.folder, "rate.votes": options.votes, "next.count": options.count}
    return {key: value for key, value in given.items() if value is not None}


def run(config: Config) -> NextImages:
    from pipelines.labelling.next_run import name_next  # `--help` does without it

    return name_next(config)


if __name__ == "__main__":
    module_main("next")

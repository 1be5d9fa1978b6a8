"""`grmp explain` says why an image has its score: where, from what damage, and which number to trust."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.explaining.explaining_run import Explained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, folders, globs, tables, s3://… (explain.images)"
    )
    parser.add_argument("--model", help="bundle folder, models:/name@alias, or backbone (score.model)")
    parser.add_argument(
        "--reference", metavar="FILE", help="the undamaged picture, or a folder of them by the same names"
    )


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "explain.images": options.images,
        "score.model": options.model,
        "explain.reference": options.reference,
    }
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> Explained:
    from pipelines.explaining.explaining_run import explain_images  # `--help` does without it

    return explain_images(config)


if __name__ == "__main__":
    module_main("explain")

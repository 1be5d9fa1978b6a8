"""`grmp score` scores images, with Ray Data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.scoring.scoring_run import Scoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, folders, globs, Parquet or CSV tables, s3://… (score.images)"
    )
    parser.add_argument("--model", help="bundle folder or models:/name@alias (score.model)")
    parser.add_argument("--output", help="scores file, .parquet or .csv (score.output)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"score.images": options.images, "score.model": options.model, "score.output": options.output}
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> Scoring:
    from pipelines.scoring.scoring_run import score_images  # `--help` does without it

    return score_images(config)


if __name__ == "__main__":
    module_main("score")

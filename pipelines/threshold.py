"""`grmp threshold` says above which score images pass, with a stated error rate and its confidence."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.scoring.pass_threshold import PassThreshold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pass-mos", type=float, help="human score that an image must reach (threshold.pass_mos)")
    parser.add_argument("--precision", type=float, help="share of accepted images that do (threshold.precision)")
    parser.add_argument("--confidence", type=float, help="that the share is kept (threshold.confidence)")
    parser.add_argument("--model", help="bundle folder or models:/name@alias (score.model)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "threshold.pass_mos": options.pass_mos,
        "threshold.precision": options.precision,
        "threshold.confidence": options.confidence,
        "score.model": options.model,
    }
    return {key: value for key, value in given.items() if value is not None}


def run(config: Config) -> PassThreshold:
    from pipelines.scoring.pass_threshold import find_threshold  # `--help` does without it

    return find_threshold(config)


if __name__ == "__main__":
    module_main("threshold")

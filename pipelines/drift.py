"""`grmp drift` compares scores with those at registration, without any human score."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.scoring.drift_check import DriftCheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scores", nargs="?", metavar="SCORES", help="table that grmp score wrote (drift.scores)")
    parser.add_argument("--model", help="bundle folder or models:/name@alias (score.model)")
    parser.add_argument("--reference", metavar="SCORES", help="earlier table to compare with (drift.reference)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"drift.scores": options.scores, "score.model": options.model, "drift.reference": options.reference}
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> DriftCheck:
    from pipelines.scoring.drift_check import check_drift  # `--help` does without it

    return check_drift(config)


if __name__ == "__main__":
    module_main("drift")

"""`grmp evaluate` compares a model's scores with human ones: SRCC, PLCC, KRCC, RMSE."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.scoring.target_evaluation import Evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="bundle folder, models:/name@alias, or backbone (score.model)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"score.model": options.model} if options.model else {}


def run(config: Config) -> Evaluation:
    from pipelines.scoring.target_evaluation import evaluate_target  # `--help` does without it

    return evaluate_target(config)


if __name__ == "__main__":
    module_main("evaluate")

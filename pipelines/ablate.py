"""`grmp ablate` compares the parts of the method and baselines on one target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    import argparse

    from pipelines.ablation.ablation_run import Ablation
    from pipelines.ablation.plan import Plan
    from pipelines.configuration.schema import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="only print the trials and the hours they take")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"ablate.plan": True} if options.plan else {}


def run(config: Config) -> Ablation | Plan:
    from pipelines.ablation.ablation_run import run_ablation  # `--help` does without it

    return run_ablation(config)


if __name__ == "__main__":
    module_main("ablate")

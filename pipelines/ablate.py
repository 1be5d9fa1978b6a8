"""`grmp ablate` compares the parts of the method and baselines on one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.ablation.ablation_run import Ablation
    from pipelines.configuration.schema import Config


def run(config: Config) -> Ablation:
    from pipelines.ablation.ablation_run import run_ablation  # `--help` does without it

    return run_ablation(config)


if __name__ == "__main__":
    module_main("ablate")

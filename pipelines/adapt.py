"""`grmp adapt` adapts the prompts to all labelled images, with the lambda and settings that a sweep chose."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.few_shot.adaptation_run import Adaptation


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The choice of the sweep in the same output, except for what `--set` names."""
    from pipelines.configuration.loading import load_config
    from pipelines.few_shot.adaptation_run import settings_of_sweep  # `--help` does without it

    given = [setting.partition("=")[0] for setting in options.set]
    return settings_of_sweep(load_config(options.config, options.set), given)


def run(config: Config) -> Adaptation:
    from pipelines.few_shot.adaptation_run import adapt_to_all_labels  # `--help` does without it

    return adapt_to_all_labels(config)


if __name__ == "__main__":
    module_main("adapt")

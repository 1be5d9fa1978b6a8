"""`grmp adapt` adapts the prompts to all labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.few_shot.adaptation_run import Adaptation


def run(config: Config) -> Adaptation:
    from pipelines.few_shot.adaptation_run import adapt_to_all_labels  # `--help` does without it

    return adapt_to_all_labels(config)


if __name__ == "__main__":
    module_main("adapt")

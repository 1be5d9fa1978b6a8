"""`grmp pretrain` meta-learns the prompts over the tasks, with Ray Train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.pretraining.pretraining_run import Pretraining


def run(config: Config) -> Pretraining:
    from pipelines.pretraining.pretraining_run import pretrain_prompts  # `--help` does without it

    return pretrain_prompts(config)


if __name__ == "__main__":
    module_main("pretrain")

"""`grmp synthesize` makes distortion tasks from pristine pictures, with Ray Data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.task_making.synthesis import Synthesis


def run(config: Config) -> Synthesis:
    from pipelines.task_making.synthesis import synthesize  # `--help` does without it

    return synthesize(config)


if __name__ == "__main__":
    module_main("synthesize")

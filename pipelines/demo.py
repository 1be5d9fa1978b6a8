"""`grmp demo` runs the whole way on embedded data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.demonstration.demo_run import Demo


def run(config: Config) -> Demo:
    from pipelines.demonstration.demo_run import run_demo  # `--help` does without it

    return run_demo(config)


if __name__ == "__main__":
    module_main("demo")

"""`grmp report` writes the report of a sweep again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.reporting.sweep_report import Report


def run(config: Config) -> Report:
    from pipelines.reporting.sweep_report import write_report  # `--help` does without it

    return write_report(config)


if __name__ == "__main__":
    module_main("report")

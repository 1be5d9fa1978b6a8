"""`grmp report` writes the report of a sweep again, or compares two."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.reporting.sweep_comparison import SweepComparison
    from pipelines.reporting.sweep_report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "compare", nargs="*", metavar="OUTPUT", help="output of a sweep, or two to compare (report.compare)"
    )


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    if len(options.compare) == 1:
        return {"output": options.compare[0]}
    return {"report.compare": options.compare} if options.compare else {}


def run(config: Config) -> Report | SweepComparison:
    from pipelines.reporting.sweep_comparison import compare_sweeps
    from pipelines.reporting.sweep_report import write_report  # `--help` does without them

    if config.report.compare:
        return compare_sweeps(config)
    return write_report(config)


if __name__ == "__main__":
    module_main("report")

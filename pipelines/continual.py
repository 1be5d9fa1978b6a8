"""`grmp continual` learns from labelled sets that arrive one after the other."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.streaming_sets.stream_run import Stream


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sets", metavar="FILE", nargs="+", help="a configuration file for each set, in their order")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"continual.sets": options.sets} if options.sets else {}


def run(config: Config) -> Stream:
    from pipelines.streaming_sets.stream_run import run_stream  # `--help` does without it

    return run_stream(config)


if __name__ == "__main__":
    module_main("continual")

"""`grmp card MODEL` shows where a model comes from, its numbers, and the rights in it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.registry.origin import Card


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="bundle folder or models:/name@alias (card.model)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"card.model": options.model} if options.model else {}


def run(config: Config) -> Card:
    from pipelines.registry.origin import card_of  # `--help` does without it

    return card_of(config)


if __name__ == "__main__":
    module_main("card")

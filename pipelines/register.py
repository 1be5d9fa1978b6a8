"""`grmp register` puts the chosen model into the MLflow registry."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.registry.registration import Registration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rollback", action="store_true", help="make the champion of before champion again")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"register.rollback": True} if options.rollback else {}


def run(config: Config) -> Registration:
    from pipelines.registry.registration import register_model  # `--help` does without it

    return register_model(config)


if __name__ == "__main__":
    module_main("register")

"""`grmp register` puts the chosen model into the MLflow registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.registry.registration import Registration


def run(config: Config) -> Registration:
    from pipelines.registry.registration import register_model  # `--help` does without it

    return register_model(config)


if __name__ == "__main__":
    module_main("register")

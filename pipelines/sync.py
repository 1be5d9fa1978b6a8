"""`grmp sync` logs to MLflow what could not be logged earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.tracking.catching_up import Synced


def run(config: Config) -> Synced:
    from pipelines.tracking.catching_up import log_outbox  # `--help` does without it

    return log_outbox(config)


if __name__ == "__main__":
    module_main("sync")

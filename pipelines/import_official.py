"""`grmp import-official FILE` makes a bundle of a checkpoint that the published code saved."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.importing.import_run import Imported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="checkpoint, .pt or .safetensors (import_official.file)"
    )


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"import_official.file": options.file} if options.file else {}


def run(config: Config) -> Imported:
    from pipelines.importing.import_run import import_official  # `--help` does without it

    return import_official(config)


if __name__ == "__main__":
    module_main("import_official")

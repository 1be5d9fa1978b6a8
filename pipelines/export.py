"""`grmp export [MODEL] --to onnx|safetensors|hub` writes a model in a format of other programs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.exporting.export_run import Exported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="bundle folder or models:/name@alias (export.model)")
    parser.add_argument("--to", choices=("onnx", "safetensors", "hub"), help="the format (export.to)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"export.model": options.model, "export.to": options.to}
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> Exported:
    from pipelines.exporting.export_run import export_model  # `--help` does without it

    return export_model(config)


if __name__ == "__main__":
    module_main("export")

"""`grmp preview` draws a contact sheet of the distortion tasks and their labels."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.task_making.preview import Preview


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="contact sheet, .html or .png (preview.output)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {"preview.output": options.file} if options.file else {}


def run(config: Config) -> Preview:
    from pipelines.task_making.preview import write_preview  # `--help` does without it

    return write_preview(config)


if __name__ == "__main__":
    module_main("preview")

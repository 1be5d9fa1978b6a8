"""`grmp distil` trains a small student on the scores of a large teacher, with Ray Data and Ray Train."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.distilling.distilling_run import Distillation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="files, folders, … without labels (distil.images)")
    parser.add_argument("--teacher", help="bundle folder, models:/name@alias, or a plug-in's name (distil.teacher)")
    parser.add_argument("--student", help="backbone of the student, such as grmp-nano-xs (distil.student)")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "distil.images": options.images,
        "distil.teacher": options.teacher,
        "distil.student": options.student,
    }
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> Distillation:
    from pipelines.distilling.distilling_run import distil_student  # `--help` does without it

    return distil_student(config)


if __name__ == "__main__":
    module_main("distil")

"""`grmp rate` serves a page on which people rate images, and turns their votes into labels."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.cli import module_main

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config
    from pipelines.labelling.rating_server import Rated
    from pipelines.labelling.votes_to_labels import Export, Imported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="folder of the images (rate.folder)")
    parser.add_argument("--pairs", action="store_true", help="compare two images at a time (rate.mode=pairs)")
    parser.add_argument("--export", metavar="FILE", help="write labels from the votes, a .csv file (rate.export)")
    parser.add_argument("--import", dest="import_file", metavar="FILE", help="Label Studio's JSON, or rankings")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "rate.folder": options.folder,
        "rate.mode": "pairs" if options.pairs else None,
        "rate.export": options.export,
        "rate.import_file": options.import_file,
    }
    return {key: value for key, value in given.items() if value}


def run(config: Config) -> Rated | Export | Imported:
    from pipelines.labelling import rating_server, votes_to_labels  # `--help` does without them

    if config.rate.import_file:
        return votes_to_labels.import_votes(config.rate)
    if config.rate.export:
        return votes_to_labels.export_labels(config.rate)
    return rating_server.serve(config)


if __name__ == "__main__":
    module_main("rate")

"""From what a user names to single images: files, folders, patterns and tables, on this machine or an object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from grmp_core.storage import Location, locate, readable
from pipelines.runtime.console import say
from pipelines.runtime.image_listing import listed
from pipelines.scoring.image_tables import TABLE_SUFFIXES, ImageInput, images_in_table


@dataclass(frozen=True)
class ScoreInputs:
    """Images that are to be scored, entry by entry, sorted within a folder or pattern; and what else is there."""

    images: list[ImageInput]
    not_taken: list[NotTaken]


def find_images(entries: Sequence[str]) -> ScoreInputs:
    """The images of `score.images`.

    An entry is a file, a folder, a pattern, or a table (a name that ends in .parquet or .csv, also a folder or pattern
    of that name), as a path, file://… or s3://…. One that names nothing, holds no image or cannot be read becomes an
    input with that problem: it costs a row of its own.

    Raises:
        InputError: no entry can be used.
    """
    images: list[ImageInput] = []
    not_taken: list[NotTaken] = []
    problems: list[str] = []
    for entry in entries:
        try:
            taken, others = _images_of(entry)
        except (InputError, OSError) as error:
            problem = " ".join(str(error).split())
            problems.append(f"score.images: {problem}")
            taken, others = [ImageInput(name=readable(entry), path=readable(entry), problem=problem)], ()
        images += taken
        not_taken += others
    if len(problems) == len(entries):
        raise InputError("; ".join(dict.fromkeys(problems)))
    for problem in problems:
        say(problem)
    return ScoreInputs(images, not_taken)


def _images_of(entry: str) -> tuple[list[ImageInput], Sequence[NotTaken]]:
    name = locate(entry).name if "://" in entry else entry.rstrip("/")  # without the options of a URI
    if name.lower().endswith(TABLE_SUFFIXES):
        return [image for table in _tables(locate(entry)) for image in images_in_table(table)], ()
    listing = listed(entry)
    return [ImageInput.file(path) for path in listing.paths], listing.not_taken


def _tables(location: Location) -> list[Location]:
    """The table of this name, or those that match the pattern, without the files of those that are folders."""
    if location.exists():
        return [location]
    matches = location.glob(folders=True)
    if not matches:
        raise InputError(f"{location.uri}: {location.reason_missing()}")
    paths = {PurePosixPath(match.path) for match in matches}
    return [match for match in matches if paths.isdisjoint(PurePosixPath(match.path).parents)]

"""From what a user names to single images: files, folders, patterns and tables, on this machine or an object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from grmp_core.storage import Location, locate
from pipelines.scoring.image_tables import TABLE_SUFFIXES, ImageInput, images_in_table
from pipelines.task_making.picture_sources import list_photos


@dataclass(frozen=True)
class ScoreInputs:
    """Images that are to be scored, entry by entry, sorted within a folder or pattern; and what else is there."""

    images: list[ImageInput]
    not_taken: list[NotTaken]


def find_images(entries: Sequence[str]) -> ScoreInputs:
    """The images of `score.images`.

    An entry is a file, a folder, a pattern, or a table (a name that ends in .parquet or .csv, also a folder or pattern
    of that name), as a path, file://… or s3://….

    Raises:
        InputError: an entry names nothing, holds no image, or is a table that cannot be read.
    """
    images: list[ImageInput] = []
    not_taken: list[NotTaken] = []
    for entry in entries:
        name = locate(entry).name if "://" in entry else entry.rstrip("/")  # without the options of a URI
        if name.lower().endswith(TABLE_SUFFIXES):
            images += [image for table in _tables(locate(entry)) for image in images_in_table(table)]
        else:
            listing = list_photos(entry)
            images += [ImageInput.file(path) for path in listing.paths]
            not_taken += listing.not_taken
    return ScoreInputs(images, not_taken)


def _tables(location: Location) -> list[Location]:
    """The table of this name, or those that match the pattern, without the files of those that are folders."""
    if location.exists():
        return [location]
    matches = location.glob(folders=True)
    if not matches:
        raise InputError(f"score.images: {location.uri}: {location.reason_missing()}")
    paths = {PurePosixPath(match.path) for match in matches}
    return [match for match in matches if paths.isdisjoint(PurePosixPath(match.path).parents)]

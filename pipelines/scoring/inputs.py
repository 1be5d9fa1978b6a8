"""From what a user names to the paths of single images."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow.parquet as pq

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from grmp_core.storage import locate
from pipelines.task_making.picture_sources import list_photos


def paths_of(images: Sequence[str]) -> tuple[list[str], list[NotTaken]]:
    """The images, and what else is in the folders and patterns that were named."""
    paths: list[str] = []
    not_taken: list[NotTaken] = []
    for entry in images:
        if entry.endswith(".parquet"):
            paths += _paths_in_parquet(entry)
        else:
            listing = list_photos(entry)
            paths += listing.paths
            not_taken += listing.not_taken
    return paths, not_taken


def _paths_in_parquet(entry: str) -> list[str]:
    place = locate(entry)
    if not place.exists():
        raise InputError(f"score.images: {entry} does not exist")
    names = pq.read_schema(io.BytesIO(place.read_bytes())).names
    column = next((name for name in ("image_path", "image", "path") if name in names), None)
    if column is None:
        raise InputError(f"score.images: {entry} has no column image_path, image or path, but {', '.join(names)}")
    return [str(path) for path in pq.read_table(io.BytesIO(place.read_bytes()), columns=[column])[column].to_pylist()]

"""Which of the things to score are videos."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from grmp_core.errors import InputError
from grmp_core.imaging.listing import IMAGE_SUFFIXES, Listing, local_files, not_taken_of
from grmp_core.storage import readable
from grmp_core.video.frames import VIDEO_SUFFIXES
from pipelines.runtime.console import say

_IMAGES = Listing(())


def videos_of(entries: Sequence[str]) -> Listing | None:
    """The videos that `score.images` names, sorted within a folder or pattern, with a line of what else is there; null
    where it names images.

    A folder with videos and without images is one of videos, its sub-folders included. Names that begin with a dot are
    left out. InputError for videos and images in one run.
    """
    found = [_videos_in(entry) for entry in entries]
    if not any(listing.paths for listing in found):
        return None
    for entry, listing in zip(entries, found, strict=True):
        if not listing.paths:
            raise InputError(
                f"score.images names videos, but also {readable(entry)}; score images and videos in runs of their own"
            )
    for entry, listing in zip(entries, found, strict=True):
        if summary := listing.summary():
            say(f"{readable(entry)}: {summary}")
    return Listing(
        tuple(path for listing in found for path in listing.paths),
        tuple(left for listing in found for left in listing.not_taken),
    )


def _videos_in(entry: str) -> Listing:
    """Of one entry; without any path where it names images, or nothing."""
    is_pattern = glob.has_magic(entry) and "://" not in entry and not os.path.exists(entry)
    files, left_out = local_files(entry) if is_pattern or os.path.isdir(entry) else ([entry], [])
    videos = sorted(file for file in files if _ending(file) in VIDEO_SUFFIXES)
    others = sorted(file for file in files if _ending(file) not in VIDEO_SUFFIXES)
    if not videos or any(_ending(file) in IMAGE_SUFFIXES for file in others):
        return _IMAGES
    for file in others:
        left = not_taken_of(file)
        if left is None:
            return _IMAGES
        left_out.append(left)
    return Listing(tuple(videos), tuple(sorted(left_out, key=lambda left: left.path)))


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()

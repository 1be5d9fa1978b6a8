"""Which of the things to score are videos."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from grmp_core.errors import InputError
from grmp_core.imaging.listing import IMAGE_SUFFIXES
from grmp_core.storage import readable
from grmp_core.video.frames import VIDEO_SUFFIXES


def videos_of(entries: Sequence[str]) -> list[str] | None:
    """Paths of the videos that `score.images` names, sorted within a folder or pattern; null where it names images.

    A folder with videos and without images is one of videos; files of it that are none are passed over, as its
    subfolders are not. InputError for videos and images in one run.
    """
    found = [_videos_in(entry) for entry in entries]
    if not any(found):
        return None
    if not all(found):
        images = next(entry for entry, videos in zip(entries, found, strict=True) if not videos)
        raise InputError(
            f"score.images names videos, but also {readable(images)}; score images and videos in runs of their own"
        )
    return [path for videos in found for path in videos]


def _videos_in(entry: str) -> list[str]:
    if os.path.isdir(entry):
        files = [os.path.join(root, name) for root, _, names in os.walk(entry) for name in names]
    elif glob.has_magic(entry) and "://" not in entry and not os.path.exists(entry):
        files = glob.glob(entry, recursive=True)
    else:
        files = [entry]
    endings = {PurePosixPath(file).suffix.lower() for file in files}
    if endings & IMAGE_SUFFIXES:
        return []
    return sorted(file for file in files if PurePosixPath(file).suffix.lower() in VIDEO_SUFFIXES)

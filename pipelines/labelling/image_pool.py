"""The images of a folder that is rated: found while it is read, known by a key, and looked at before they are shown."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import DEFAULT_LIMITS, ImageLimits, decode_image, id_of_file, image_bytes, image_id
from grmp_core.imaging.listing import Listing, NotTaken, each_image

_SECONDS_BETWEEN_SCANS = 3.0
_SCAN_SHARE = 0.05
"""Largest share of time that is spent on reading the folder again."""


def key_of(path: str) -> str:
    """Key of an image by its path in the folder: 16 hex digits. Sorted by it, images are in a random order that stays
    the same."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A file as it was looked at."""

    stamp: tuple[int, int]
    """Size and time of change: a file that has another one is looked at again."""
    image_id: str
    problem: str
    """Why it cannot be rated, empty where it can."""


class ImagePool:
    """Images by key; only these are ever served, so that no request names a path.

    folder: its images, sub-folders included. InputError where it is no folder.
    limits: images outside of them cannot be rated.
    """

    def __init__(self, folder: str, own_files: tuple[str, ...] = (), *, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        if not os.path.isdir(folder):
            raise InputError(f"{folder}: there is no such folder; name the folder of the images to rate")
        self.folder = folder
        self.limits = limits
        self.is_complete = False
        """Whether the folder has been read to its end once."""
        self.not_taken: tuple[NotTaken, ...] = ()
        """Files of the folder that are no images."""
        self.unusable: dict[str, str] = {}
        """Path of each image that cannot be shown, and why."""
        self._own_files = {os.path.realpath(file) for file in own_files}
        self._paths: dict[str, str] = {}
        self._order: list[str] = []
        self._checked: dict[str, Checked] = {}
        self._ids: dict[str, tuple[tuple[int, int], str | None]] = {}
        """Stamp and `image_id` of files by their path."""
        self._stopped = threading.Event()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def order(self) -> list[str]:
        """All keys, sorted."""
        return self._order

    def path(self, key: str) -> str | None:
        """Path of an image in the folder, null for an unknown key."""
        return self._paths.get(key)

    def file(self, key: str) -> str | None:
        """Path of the file itself, null for an unknown key."""
        path = self._paths.get(key)
        return None if path is None else os.path.join(self.folder, path)

    def scan(self) -> None:
        """Read the folder once: new images are there as soon as they are found."""
        found: list[str] = []
        left_out: list[NotTaken] = []
        for file in each_image(self.folder, left_out):
            path = os.path.relpath(file, self.folder)
            key = key_of(path)
            if key not in self._paths:
                self._paths[key] = path
                found.append(key)
            if len(found) > len(self._order) / 2:  # sorting what doubles costs no more than sorting once
                self._order, found = sorted([*self._order, *found]), []
        self._order = sorted([*self._order, *found])
        for path in list(self.unusable):  # a file that was still being copied may be whole by now
            self.check(key_of(path))
        self.not_taken = tuple(left for left in left_out if os.path.realpath(left.path) not in self._own_files)
        self.is_complete = True

    def start(self, first_scan_done: Callable[[], None]) -> None:
        """Read the folder in a thread, again and again."""

        def scan_forever() -> None:
            self.scan()
            first_scan_done()
            pause = _SECONDS_BETWEEN_SCANS
            while not self._stopped.wait(pause):
                began = time.monotonic()
                self.scan()
                pause = max(_SECONDS_BETWEEN_SCANS, (time.monotonic() - began) / _SCAN_SHARE)

        threading.Thread(target=scan_forever, name="image-pool", daemon=True).start()

    def stop(self) -> None:
        """Read the folder no more."""
        self._stopped.set()

    def check(self, key: str) -> Checked | None:
        """Look at an image before it is shown: what cannot be decoded could not be learned from. Null where the file
        is gone or cannot be used; `unusable` then says why."""
        file = self.file(key)
        if file is None:
            return None
        path = self._paths[key]
        try:
            stamp = _stamp_of(file)
        except OSError as error:
            self.unusable[path] = f"gone ({error.strerror})"
            return None
        known = self._checked.get(key)
        if known is None or known.stamp != stamp:
            known = self._checked[key] = _look_at(file, stamp, self.limits)
        if known.problem:
            self.unusable[path] = known.problem
            return None
        self.unusable.pop(path, None)
        self._ids[file] = (stamp, known.image_id)
        return known

    def image_id(self, file: str) -> str | None:
        """`image_id` of a file by its path; it is read once, and again when it has changed. Null where it cannot be."""
        try:
            stamp = _stamp_of(file)
        except OSError:
            return None
        known = self._ids.get(file)
        if known is None or known[0] != stamp:
            known = self._ids[file] = (stamp, id_of_file(file))
        return known[1]

    def summary(self) -> str | None:
        """One line about the files that are not taken, null where there are none."""
        return Listing((), self.not_taken).summary()


def _stamp_of(file: str) -> tuple[int, int]:
    stat = os.stat(file)
    return stat.st_size, stat.st_mtime_ns


def _look_at(file: str, stamp: tuple[int, int], limits: ImageLimits) -> Checked:
    try:
        data = image_bytes(file)
        decode_image(data, limits)
    except ImageError as error:
        return Checked(stamp=stamp, image_id="", problem=error.reason)
    return Checked(stamp=stamp, image_id=image_id(data), problem="")

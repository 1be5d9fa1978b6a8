"""Which files of a folder or pattern are images, and which are not taken, with the reason."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO

import numpy as np

from grmp_core.errors import InputError
from grmp_core.imaging.kinds import UNREAD_KINDS, kind_of
from grmp_core.imaging.readers import READERS
from grmp_core.storage import Location, locate

_SUFFIXES = """
.jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .dib .webp .tif .tiff .gif .ppm .pgm .pbm .pnm .avif
.jp2 .j2k .j2c .jpc .jpf .jpx
"""
IMAGE_SUFFIXES: frozenset[str] = frozenset(_SUFFIXES.split())
"""File name endings, lower case, of files that are taken unseen: one that turns out to be none has its own error. With
another ending, or none, a file's content decides."""

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
_SUMMED_UP = 8
"""Endings that a summary names, the most frequent ones."""
_REMOTE_READS = 16
"""Files of an object store whose first bytes are fetched at a time."""


@dataclass(frozen=True)
class NotTaken:
    """A file of a folder or pattern, or a folder below it, that is left out."""

    path: str
    reason: str
    group: str
    """Its ending, or `folder`; a summary counts by it."""

    def as_row(self) -> dict[str, str]:
        """As a manifest has it."""
        return {"path": self.path, "reason": self.reason}


@dataclass(frozen=True)
class Listing:
    """Images and other files, both sorted by path."""

    paths: tuple[str, ...]
    not_taken: tuple[NotTaken, ...] = ()

    def summary(self) -> str | None:
        """`12 files not taken: .txt 9, .heic 3`, the most frequent endings first; null where all were."""
        if not self.not_taken:
            return None
        groups = Counter(left.group for left in self.not_taken)
        endings = sorted(groups.items(), key=lambda ending: (-ending[1], ending[0]))
        named = [f"{ending} {count}" for ending, count in endings[:_SUMMED_UP]]
        if rest := sum(count for _, count in endings[_SUMMED_UP:]):
            named.append(f"others {rest}")
        count = len(self.not_taken)
        return f"{count} file{'s' if count > 1 else ''} not taken: {', '.join(named)}"


def list_images(path_or_glob: str) -> Listing:
    """Image files of a folder with its sub-folders, linked ones, too; of a glob pattern; or one file; by path or URI.

    Of folders and patterns those are taken that end as in `IMAGE_SUFFIXES` or hold an image by their content; a file
    named directly is taken as it is. Names that begin with a dot are left out, as a shell does. A folder that several
    links lead to is listed once.

    Raises:
        InputError: there is nothing of that name, or no image was found.
    """
    location = locate(path_or_glob) if "://" in path_or_glob else None
    if location is not None and not location.is_local:
        return _list_remote(location)
    return _list_local(path_or_glob if location is None else location.path)


def each_image(folder: str, left_out: list[NotTaken]) -> Iterator[str]:
    """Paths of the images that `list_images` takes of a local folder, while it is read and in no order: the first one
    comes at once, also of very many. What is not taken is added to `left_out`."""
    for path in _walk(folder, left_out):
        left = not_taken_of(path)
        if left is None:
            yield path
        else:
            left_out.append(left)


def not_taken_of(path: str) -> NotTaken | None:
    """Of a local file: why it is not taken, by its ending or else by its content; null where it is."""
    reason = _reason((path, _local_opener(path)))
    return None if reason is None else NotTaken(path, reason, _ending(path) or "without ending")


def local_files(path: str) -> tuple[list[str], list[NotTaken]]:
    """All files of a folder with its sub-folders, or else of a glob pattern, without hidden ones and in no order; and
    the folders below it that are left out."""
    if not os.path.isdir(path):
        return _matching(path)
    left_out: list[NotTaken] = []
    return list(_walk(path, left_out)), left_out


def _list_local(path: str) -> Listing:
    if os.path.isfile(path):
        return Listing((path,))
    if not os.path.lexists(path) and not glob.has_magic(path):
        raise InputError(f"{path}: there is no such file or folder; correct the name")
    files, left_out = local_files(path)
    listing = sort_out([(file, _local_opener(file)) for file in files])
    listing = Listing(listing.paths, tuple(sorted([*listing.not_taken, *left_out], key=lambda left: left.path)))
    check_some(listing, path, "folder" if os.path.isdir(path) else "file, folder or pattern")
    return listing


def _list_remote(location: Location) -> Listing:
    is_folder = location.is_folder()
    if not is_folder and location.exists():
        return Listing((location.uri,))
    files = location.list(recursive=True) if is_folder else location.glob()
    if not is_folder and not files:
        raise InputError(f"{location.uri}: {location.reason_missing()}")
    with ThreadPoolExecutor(_REMOTE_READS) as threads:
        listing = sort_out([(file.uri, file.open) for file in files if not file.name.startswith(".")], threads)
    check_some(listing, location.uri, "folder or pattern")
    return listing


def sort_out(files: Sequence[tuple[str, Opener]], threads: Executor | None = None) -> Listing:
    """Take the images among files; each comes with what opens it, used where its name does not decide.

    threads: to open files that are far away at the same time.
    """
    reasons = threads.map(_reason, files) if threads else map(_reason, files)
    decided = list(zip((path for path, _ in files), reasons, strict=True))
    not_taken = [NotTaken(path, why, _ending(path) or "without ending") for path, why in decided if why]
    return Listing(
        tuple(sorted(path for path, why in decided if why is None)),
        tuple(sorted(not_taken, key=lambda left: left.path)),
    )


def check_some(listing: Listing, where: str, place: str) -> None:
    """InputError when nothing was taken."""
    if not listing.paths:
        first = next((f"; {left.path}: {left.reason}" for left in listing.not_taken), "")
        found = f" ({listing.summary()}{first})" if listing.not_taken else ""
        raise InputError(
            f"{where}: no image found{found}; give a {place} with JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, PPM or JPEG "
            "2000 files"
        )


def evenly_chosen(folder: str, count: int) -> list[str]:
    """At most `count` of a folder's images, evenly from its sorted list. InputError for none, or for count < 1."""
    paths = list_images(folder).paths
    if count < 1:
        raise InputError(f"{count} photos: use 1 or more")
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, count).round().astype(int))]


def _reason(file: tuple[str, Opener]) -> str | None:
    """Why a file is not taken; null where it is."""
    path, opened = file
    if _ending(path) in IMAGE_SUFFIXES:
        return None
    try:
        with opened() as stream:
            kind = kind_of(stream)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except InputError as error:
        return str(error)
    if kind in READERS:
        return None
    return UNREAD_KINDS.get(kind or "", "no image by its content")


def _local_opener(path: str) -> Opener:
    def opened() -> IO[bytes]:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its other end
            raise InputError("no regular file")
        return open(path, "rb")

    return opened


def _walk(top: str, left_out: list[NotTaken]) -> Iterator[str]:
    """Files below a folder, without hidden ones. Each real folder is read once, by a link only if by no other way."""

    def leave_out(folder: str, reason: str) -> None:
        left_out.append(NotTaken(folder, reason, "folder"))

    def is_new(folder: str) -> bool:
        try:
            found = os.stat(folder)
        except OSError as error:
            leave_out(folder, f"cannot be read ({error.strerror})")
            return False
        if (found.st_dev, found.st_ino) in seen:
            leave_out(folder, "listed already by another path")
            return False
        seen.add((found.st_dev, found.st_ino))
        return True

    def unreadable(error: OSError) -> None:
        leave_out(str(error.filename), f"cannot be read ({error.strerror})")

    seen: set[tuple[int, int]] = set()
    tops = [top]
    while tops:
        top = tops.pop(0)
        if not is_new(top):
            continue
        for root, folders, files in os.walk(top, onerror=unreadable):
            paths = [os.path.join(root, name) for name in sorted(folders) if not name.startswith(".")]
            tops += [path for path in paths if os.path.islink(path)]
            folders[:] = [os.path.basename(path) for path in paths if not os.path.islink(path) and is_new(path)]
            yield from (os.path.join(root, name) for name in files if not name.startswith("."))


def _matching(pattern: str) -> tuple[list[str], list[NotTaken]]:
    """Files that a glob pattern names, without hidden ones.

    `**` also goes into linked folders. Python's own way into them follows links in a circle.
    """
    parts = pattern.split(os.sep)
    if "**" not in parts:
        matches = glob.glob(pattern)
        return [path for path in matches if not os.path.basename(path).startswith(".") and not os.path.isdir(path)], []
    first = parts.index("**")
    roots = glob.glob(os.sep.join([*parts[:first], ""])) if first else [os.curdir]
    left_out: list[NotTaken] = []
    found = []
    for root in roots:
        below = (os.path.relpath(path, root) for path in _walk(root, left_out))
        fitting = [path for path in below if _fits(path.split(os.sep), parts[first:])]
        found += [os.path.join(root, path) for path in fitting] if first else fitting
    return found, left_out


def _fits(names: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[i:], pattern[1:] or ["*"]) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def _ending(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[1].lower()

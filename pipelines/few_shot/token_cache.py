"""Encoded targets on disk, kept for the next run of the same target.

`<cache>/<key>/` holds arrays (.npy), which trials map instead of copying, and `images.json`, a line an image. An entry
is written under another name and renamed when it is whole, so that a run which dies leaves none. The entries that were
used last stay within the limit of size; deleting the folder clears the cache.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text
from pipelines.runtime.console import say

ARRAYS = ("train_tokens", "teacher_logits", "score_tokens", "statistics")
_IMAGES = "images.json"
_LOCK = ".lock"
_UNFINISHED = ".part-"


class TokenEntry:
    """An encoded target on disk. No process deletes it while an object of it is alive, here or in another process on
    this machine. A row that has an error holds zeros in the arrays."""

    def __init__(self, folder: Path) -> None:
        """FileNotFoundError where there is no such entry."""
        self.folder = folder
        handle = os.open(folder / _IMAGES, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_SH)

    def __reduce__(self) -> tuple[type[TokenEntry], tuple[Path]]:
        """A copy in another process has a lock of its own."""
        return TokenEntry, (self.folder,)

    def images(self) -> list[dict[str, Any]]:
        """Of every row, in order: `error`, `image_id`, `perceptual_hash` (hexadecimal)."""
        return json.loads((self.folder / _IMAGES).read_text())

    def arrays(self) -> dict[str, np.ndarray]:
        """By the names of ARRAYS, mapped; writing to one changes nothing on disk."""
        return {name: np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in ARRAYS}


class EntryWriter:
    """An entry while its rows come, in any order."""

    def __init__(self, cache: TokenCache, key: str, num_rows: int) -> None:
        self.cache, self.key, self.num_rows = cache, key, num_rows
        self.folder = cache.folder / f"{_UNFINISHED}{key}-{secrets.token_hex(4)}"
        self.folder.mkdir(parents=True)
        self._files: dict[str, np.memmap] = {}

    def write(self, row: int, arrays: Mapping[str, np.ndarray]) -> None:
        """The arrays of one row, with no dimension for it; all rows have equal shapes and types."""
        for name, array in arrays.items():
            if name not in self._files:
                shape = (self.num_rows, *array.shape)
                self._files[name] = np.lib.format.open_memmap(
                    self.folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=shape
                )
            self._files[name][row] = array

    def finish(self, images: list[dict[str, Any]]) -> TokenEntry:
        """Make it an entry of the cache, and let those go that were not used for longest."""
        for file in self._files.values():
            file.flush()
        (self.folder / _IMAGES).write_text(json_text(images))
        return self.cache.take_in(self.folder, self.key)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class TokenCache:
    """A folder of encoded targets, `limit_bytes` at most beside those in use. One process at a time opens, takes in or
    deletes entries. InputError where none can be kept."""

    def __init__(self, folder: str | None, limit_bytes: float) -> None:
        """folder: null for `grmp-iqa/encoded` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self.folder = Path(folder or f"{home}/grmp-iqa/encoded").expanduser().absolute()
        self.limit_bytes = limit_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                pass
        except OSError as error:
            raise InputError(
                f"{self.folder}: encoded images cannot be kept there ({error.strerror}); set target.encoded to a "
                "folder of this machine that can be written"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A time in which no other process opens or changes the cache's entries. OSError where files have no locks."""
        lock = self.folder / _LOCK
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user has made it
            handle = os.open(lock, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def entry(self, key: str) -> TokenEntry | None:
        """The entry of that name, which counts as used now; null where there is none."""
        with self._alone():
            if not (self.folder / key / _IMAGES).exists():
                return None
            os.utime(self.folder / key)
            return TokenEntry(self.folder / key)

    def take_in(self, written: Path, key: str) -> TokenEntry:
        """Make a whole folder the entry of that name, unless another run was faster, and let those go that were not
        used for longest."""
        with self._alone():
            if (self.folder / key / _IMAGES).exists():
                shutil.rmtree(written)
            else:
                shutil.rmtree(self.folder / key, ignore_errors=True)  # earlier versions died half way of deleting
                written.rename(self.folder / key)
            entry = TokenEntry(self.folder / key)
            self._shrink()
        return entry

    def _shrink(self) -> None:
        """Delete what was used longest ago until the limit holds, but for entries in use; and what died unfinished more
        than a day ago."""
        names = [name for name in os.listdir(self.folder) if (self.folder / name / _IMAGES).exists()]
        entries = [self.folder / name for name in names if not name.startswith(_UNFINISHED)]
        kept_bytes = 0
        for entry in sorted(entries, key=_used, reverse=True):
            size = _size_bytes(entry)
            if kept_bytes + size <= self.limit_bytes or not _deleted_unless_used(entry):
                kept_bytes += size
        day_ago = _now(self.folder) - 86400
        for folder in self.folder.glob(f"{_UNFINISHED}*"):
            if _used(folder) < day_ago:
                shutil.rmtree(folder, ignore_errors=True)


def _deleted_unless_used(entry: Path) -> bool:
    """Delete an entry that no process uses; -> whether it is gone. One that dies half deleted is an unfinished one."""
    dying = entry.with_name(f"{_UNFINISHED}{entry.name}-{secrets.token_hex(4)}")
    try:
        handle = os.open(entry / _IMAGES, os.O_RDWR)  # NFS gives exclusive locks to files open for writing
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry.rename(dying)
        finally:
            os.close(handle)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # somebody cleared the cache
        return True
    except OSError as error:  # such as another user's entry
        say(f"target: {entry} stays, although the cache is above target.encoded_gb: {error.strerror}")
        return False
    say(f"target: {entry} leaves the cache of encoded images (target.encoded_gb)")
    shutil.rmtree(dying, ignore_errors=True)
    return True


def _now(folder: Path) -> float:
    """By the clock of the file system."""
    os.utime(folder)
    return folder.stat().st_mtime


def _used(folder: Path) -> float:
    """Time of the last use; now where it has just gone."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _size_bytes(folder: Path) -> int:
    """0 where it has just gone."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except FileNotFoundError:
        return 0

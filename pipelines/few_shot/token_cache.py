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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text
from pipelines.runtime.console import say

ARRAYS = ("train_tokens", "teacher_logits", "score_tokens", "statistics")
_IMAGES = "images.json"
_UNFINISHED = ".part-"


class TokenEntry:
    """An encoded target on disk. No process deletes it while an object of it is alive, here or in another process on
    this machine. A row that has an error holds zeros in the arrays."""

    def __init__(self, folder: Path) -> None:
        """FileNotFoundError where there is no such entry, InputError where files cannot be locked."""
        self.folder = folder
        handle = os.open(folder / _IMAGES, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
        except OSError as error:
            raise InputError(
                f"{folder}: files cannot be locked there ({error.strerror}); set target.encoded to a folder of this "
                "machine"
            ) from error
        if os.fstat(handle).st_nlink == 0:
            raise FileNotFoundError(f"{folder} was deleted in this moment")

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
        entry = self.cache.folder / self.key
        try:
            self.folder.rename(entry)
        except OSError:
            if not (entry / _IMAGES).exists():
                raise
            shutil.rmtree(self.folder)  # another run was faster
        kept = TokenEntry(entry)
        self.cache.shrink()
        return kept

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class TokenCache:
    """A folder of encoded targets, `limit_bytes` at most beside the one in use. InputError where none can be kept."""

    def __init__(self, folder: str | None, limit_bytes: float) -> None:
        """folder: null for `grmp-iqa/encoded` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self.folder = Path(folder or f"{home}/grmp-iqa/encoded").expanduser().absolute()
        self.limit_bytes = limit_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: encoded images cannot be kept there ({error.strerror}); set target.encoded to a "
                "folder of this machine that can be written"
            ) from error

    def entry(self, key: str) -> TokenEntry | None:
        """The entry of that name, which counts as used now; null where there is none."""
        try:
            entry = TokenEntry(self.folder / key)
        except FileNotFoundError:
            return None
        os.utime(entry.folder)
        return entry

    def shrink(self) -> None:
        """Delete what was used longest ago until the limit holds, but for entries in use; and what died unfinished more
        than a day ago. Another process may delete entries meanwhile."""
        names = [name for name in os.listdir(self.folder) if (self.folder / name / _IMAGES).exists()]
        total = 0
        for name in sorted(names, key=lambda name: _used(self.folder / name), reverse=True):
            total += _size_bytes(self.folder / name)
            if total > self.limit_bytes:
                _delete_unused(self.folder / name)
        day_ago = _now(self.folder) - 86400
        for folder in self.folder.glob(f"{_UNFINISHED}*"):
            if _used(folder) < day_ago:
                shutil.rmtree(folder, ignore_errors=True)


def _delete_unused(folder: Path) -> None:
    """Delete an entry that nobody uses. One that another process has deleted is passed over."""
    try:
        handle = os.open(folder / _IMAGES, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        say(f"target: {folder} leaves the cache of encoded images (target.encoded_gb)")
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


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

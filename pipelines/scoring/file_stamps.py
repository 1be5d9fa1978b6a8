"""Stamps of files: tell a file that was written again from the one that was scored."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from grmp_core.errors import InputError
from grmp_core.storage import locate

_LOOKS_AT_ONCE = 16


def stamp_of(path: str) -> str:
    """Size in bytes, time of change in ns, and the path or URI; empty where the file cannot be looked at."""
    try:
        place = locate(path)
        info = place.filesystem.get_file_info(place.path)
    except (InputError, OSError):
        return ""
    return f"{info.size} {info.mtime_ns} {path}" if info.is_file else ""


def unchanged(stamps: Iterable[str]) -> set[str]:
    """The stamps that their files still have; a file is looked at once."""
    paths = {stamp.split(" ", 2)[2] for stamp in stamps if stamp}
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        return set(pool.map(stamp_of, paths)) - {""}

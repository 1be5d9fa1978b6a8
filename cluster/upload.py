"""The files of a folder that a job does not get: Ray uploads all others."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

EXCLUDES = (
    *(".git", ".venv", "venv", "build", "dist", "*.egg-info"),
    *("runs", "mlruns", "mlartifacts", "*.db", "*.db-*", "*.log"),  # written to while they would be uploaded
    *("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"),
)


def special_files(folder: Path, excludes: Sequence[str]) -> list[str]:
    """Pipes, sockets and devices below `folder`, also by links: Ray would wait for ever to read one.

    -> their paths below `folder`. Folders and files that a pattern of `excludes` leaves out by name are not looked at.
    """
    paths: list[str] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not _is_excluded(name, excludes)]
        for name in () if real in seen else files:
            path = Path(parent, name)
            if not _is_excluded(name, excludes) and path.exists() and not path.is_file():
                paths.append(path.relative_to(folder).as_posix())
        seen.add(real)
    return sorted(paths)


def _is_excluded(name: str, excludes: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in excludes)


def gitignore_pattern(path: str) -> str:
    """A pattern as of .gitignore that matches this path alone."""
    return "/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)

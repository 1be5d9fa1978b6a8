"""The result of a command that makes a row of every file, some of which have failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grmp_core.storage import locate


@dataclass(frozen=True, kw_only=True)
class FileRows:
    rows: list[dict[str, Any]]
    """In the order of the files, with a column `error`: null where there is none."""
    output: str
    """Address of the folder that holds the files of the result."""

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["error"] is not None]

    @property
    def exit_code(self) -> int:
        """1 when every file has failed."""
        return int(len(self.failed) == len(self.rows))

    def rejected(self, name: str) -> list[dict[str, Any]]:
        """The failed files for a manifest; `name` is the column of their paths."""
        return [{"path": row[name], "reason": row["error"]} for row in self.failed]


def content_of(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Content of the JSON file that a worker wrote of the only row. Null where there are several, where it failed, and
    where the file lies on the worker's node alone."""
    if len(rows) != 1 or rows[0]["error"] is not None:
        return None
    place = locate(f"{rows[0]['files']}.json")
    return place.read_json() if place.exists() else None

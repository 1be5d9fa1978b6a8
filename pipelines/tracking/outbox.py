"""The list of folders that MLflow did not take: `<output>/untracked.json`, absent when there is none."""

from __future__ import annotations

from datetime import UTC, datetime

from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines.runtime.console import one_line, say

FILE = "untracked.json"


class Untracked:
    """Entries are kind (of `folder_contents.CONTENTS`), place (the folder), reason, since_utc; a folder's latest."""

    def __init__(self, output: Location) -> None:
        self._file = output / FILE

    def entries(self) -> list[dict[str, str]]:
        """InputError when the file is damaged."""
        return self._file.read_json()["untracked"] if self._file.exists() else []

    def add(self, kind: str, folder: Location, reason: str) -> str | None:
        """-> why it cannot be listed, or None: the results that it is about are on disk all the same."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"kind": kind, "place": folder.uri, "reason": reason, "since_utc": since}
        try:
            self._write([*self._others(folder), entry])
        except (InputError, OSError) as error:  # a full disk, say
            return one_line(error)
        return None

    def remove(self, folder: Location) -> None:
        """An entry that cannot be removed is only logged once more, which changes nothing."""
        try:
            others = self._others(folder)
            if len(others) < len(self.entries()):
                self._write(others)
        except (InputError, OSError) as error:
            say(f"tracking: {folder.uri} is logged, but stays on the list of {self._file.uri}: {one_line(error)}")

    def _others(self, folder: Location) -> list[dict[str, str]]:
        return [entry for entry in self.entries() if entry["place"] != folder.uri]

    def _write(self, entries: list[dict[str, str]]) -> None:
        if entries:
            self._file.write_json({"untracked": entries})
        else:
            self._file.delete()

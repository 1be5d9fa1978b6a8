"""The list of folders that MLflow did not take: `<output>/untracked.json`."""

from __future__ import annotations

from datetime import UTC, datetime

from grmp_core.storage import Location

FILE = "untracked.json"


class Untracked:
    """Entries are kind (`sweep`, `pretrain`), place, reason, since_utc; one a place, the latest."""

    def __init__(self, output: Location) -> None:
        self._file = output / FILE

    def entries(self) -> list[dict[str, str]]:
        return self._file.read_json()["untracked"] if self._file.exists() else []

    def add(self, kind: str, place: Location, reason: str) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"kind": kind, "place": place.uri, "reason": reason, "since_utc": since}
        self._write([*self._others(place), entry])

    def remove(self, place: Location) -> None:
        others = self._others(place)
        if len(others) < len(self.entries()):
            self._write(others)

    def _others(self, place: Location) -> list[dict[str, str]]:
        return [entry for entry in self.entries() if entry["place"] != place.uri]

    def _write(self, entries: list[dict[str, str]]) -> None:
        self._file.write_json({"untracked": entries})

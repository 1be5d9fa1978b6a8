"""Log to MLflow what earlier commands could not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.tracking.tracker import open_tracking


@dataclass(frozen=True)
class Synced:
    """Result of `grmp sync`."""

    runs: tuple[str, ...]
    """Ids of the runs that now hold what was missing."""
    pending: tuple[dict[str, str], ...]
    """Folders that could still not be logged: kind, place, reason, since_utc."""

    def as_json(self) -> dict[str, Any]:
        return {"runs": list(self.runs), "pending": list(self.pending)}

    def as_text(self) -> str:
        lines = [f"logged {run}" for run in self.runs] + [f"pending {p['place']}: {p['reason']}" for p in self.pending]
        return "\n".join(lines) or "nothing was left to log"


def log_outbox(config: Config) -> Synced:
    """Log what is on the list of `output`, exactly once. What still cannot be logged stays on it."""
    tracker = open_tracking(config)
    runs = []
    for entry in tracker.pending():
        run_id = tracker.log(entry["kind"], locate(entry["place"]))
        runs += [run_id] if run_id else []
    return Synced(tuple(runs), tuple(tracker.pending()))

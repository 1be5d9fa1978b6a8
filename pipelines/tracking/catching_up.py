"""Log to MLflow what earlier commands could not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.runtime.provenance import output_folder
from pipelines.tracking.outbox import FILE
from pipelines.tracking.tracker import Tracker, open_tracking, tracker_of


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
    """Log what is on the list of `output` and of every arm of its ablation, exactly once. What still cannot be logged
    stays there."""
    runs: list[str] = []
    pending: list[dict[str, str]] = []
    for tracker in (open_tracking(config), *_of_arms(config)):
        logged = [tracker.log(entry["kind"], locate(entry["place"])) for entry in tracker.pending()]
        runs += filter(None, logged)
        pending += tracker.pending()
    return Synced(tuple(runs), tuple(pending))


def _of_arms(config: Config) -> list[Tracker]:
    """Of the arms that have a list: each has an output of its own, and there its store where nothing else names one."""
    ablation = output_folder(config, "ablation")
    outputs = [file.parent for file in ablation.list(f"/{FILE}", recursive=True)]
    arms = [output.uri for output in outputs if output.parent.path == ablation.path]
    return [tracker_of(dataclasses.replace(config, output=arm)) for arm in arms]

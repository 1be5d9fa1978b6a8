"""The folder of a sweep: every file in it is named, written and read here.

identity.json                     settings and inputs of the sweep that has begun here
unreadable.json                   images that its first run could not read
trials/<trial>/                   one trial: `TrialFolder`
ensemble/                         the models of all splits as one (`register.ensemble`): `TrialFolder`
search/<setting>/trial.json       one setting that a search tried
results.parquet, results.csv      one row a trial
search.parquet                    one row a setting
chosen.json                       the model that validation chose; empty where no trial has finished
manifest.json                     what made all this; written last
report.html, report.md, figures/  see `grmp report`
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.identity import Identity, check_version
from grmp_core.storage import Location, locate
from pipelines.results.tables import PREDICTIONS, RESULTS, SEARCH
from pipelines.results.trial import Choice, SettingResult, Settings, TrialResult, setting_name

if TYPE_CHECKING:
    from grmp_core.learning.few_shot import AdaptResult

_BEGUN_BEFORE = "begun.json"
_RESULTS = ("chosen.", "manifest.", "report.", "results.", "search.")
"""Beginnings of the names of files that tell of a whole sweep."""
Rejects = list[dict[str, str]]
"""Path and reason of images that are left out."""


@dataclass(frozen=True)
class TrialFolder:
    """Files of one trial, of one setting of a search, of a step of a stream, or of `grmp adapt`."""

    root: Location

    @property
    def bundle(self) -> Location:
        return self.root / "bundle"

    @property
    def _marker(self) -> Location:
        return self.root / "trial.json"

    @property
    def _history(self) -> Location:
        return self.root / "history.json"

    @property
    def predictions(self) -> Location:
        return self.root / "predictions.parquet"

    def result(self, identity: Identity) -> TrialResult | None:
        """Measured by a trial with the same settings and data, null where it has not finished.

        Its bundle is where the folder is now: an output may have moved.
        """
        row = self._finished_row(identity)
        return None if row is None else TrialResult.of({**row, "bundle": self.bundle.uri})

    def setting_result(self, identity: Identity) -> SettingResult | None:
        """Measured in a search, null where this setting has not ended."""
        row = self._finished_row(identity)
        return None if row is None else SettingResult.of(row)

    def _finished_row(self, identity: Identity) -> dict[str, Any] | None:
        if not self._marker.exists():
            return None
        content = self._marker.read_json()
        return content["row"] if identity.matches(content["identity"]) else None

    def finished(self) -> dict[str, Any]:
        """The row of a finished one, whatever its settings. InputError where there is none."""
        if not self._marker.exists():
            raise InputError(f"{self.root.uri} has not finished; run the command that began it again")
        return self._marker.read_json()["row"]

    def changes(self, identity: Identity) -> list[str]:
        """Differences from the one that has finished here; empty where nothing is, or none has."""
        return identity.changes_from(self._marker.read_json()["identity"]) if self._marker.exists() else []

    def begin(self) -> None:
        """Forget a trial of another sweep that was finished here, before its files are replaced."""
        if self._marker.exists():
            self._marker.delete()

    def finish(self, identity: Identity, row: Mapping[str, Any]) -> None:
        """Write `trial.json`, the last file of a trial: from now on it counts as finished."""
        kept = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        self._marker.write_json({"identity": identity.record(), "row": kept})

    def write_history(self, result: AdaptResult) -> None:
        history = [dataclasses.asdict(record) for record in result.history]
        self._history.write_json({"history": history, "val_srcc_by_epoch": result.val_srcc_by_epoch})

    def read_history(self) -> dict[str, Any]:
        """`history`, one record an epoch, and `val_srcc_by_epoch`, pairs; empty where there is none."""
        return self._history.read_json() if self._history.exists() else {}

    def write_predictions(self, table: pd.DataFrame) -> None:
        PREDICTIONS.write(self.predictions, table)

    def read_predictions(self) -> pd.DataFrame | None:
        """Null where there are none. InputError for those of an earlier version."""
        return PREDICTIONS.read(self.predictions) if self.predictions.exists() else None


@dataclass(frozen=True)
class SweepResults:
    """A sweep's folder as it was read."""

    folder: SweepFolder
    trials: pd.DataFrame
    """One row a trial, `tables.RESULTS`, in the order of lambda, budget and split."""
    manifest: dict[str, Any]
    """Empty while the sweep has not ended."""
    chosen: Choice | None
    """Null while nothing was chosen, such as when every trial failed."""
    searched: pd.DataFrame | None
    """One row a setting that a search tried, `tables.SEARCH`; null for a plain grid."""

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["error"].isna()]

    @property
    def failed(self) -> pd.DataFrame:
        return self.trials[self.trials["error"].notna()]


@dataclass(frozen=True)
class SweepFolder:
    """`<output>/sweep`"""

    root: Location

    @classmethod
    def of(cls, output: str) -> SweepFolder:
        return cls(locate(output) / "sweep")

    @property
    def uri(self) -> str:
        return self.root.uri

    # --- identity ----------------------------------------------------------------------------------------------------

    @property
    def _identity(self) -> Location:
        return self.root / "identity.json"

    def begun(self) -> dict[str, Any] | None:
        """The record of the sweep that has begun here. InputError where an earlier version has begun one."""
        if self._identity.exists():
            record = self._identity.read_json()
            check_version(record, self._identity.uri)
            return record
        if (self.root / _BEGUN_BEFORE).exists():
            raise InputError(
                f"{self.uri} holds a sweep of an earlier version, whose trials cannot be gone on with; choose another "
                "output, or delete that folder to run the sweep anew"
            )
        return None

    def begin(self, identity: Identity) -> float:
        """Leave the record of this sweep and no result of another; -> seconds that earlier runs of this one took."""
        before = self.begun()
        if before is not None and not identity.matches(before):
            for file in self.root.list():  # trials are replaced one by one
                if file.name.startswith(_RESULTS):
                    file.delete()
        self._identity.write_json(identity.record())
        manifest = self._manifest()
        of_this = manifest.get("inputs", {}).get("identity") == identity.digest
        return float(manifest["seconds"]) if of_this else 0.0

    # --- trials ------------------------------------------------------------------------------------------------------

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.root / "trials" / name)

    @property
    def ensemble(self) -> TrialFolder:
        return TrialFolder(self.root / "ensemble")

    def setting(self, settings: Settings) -> TrialFolder:
        """Of one that a search tries."""
        return TrialFolder(self.root / "search" / setting_name(settings))

    def settings_tried(self) -> list[TrialFolder]:
        """Of all settings that were ever tried here, of this search or another."""
        return [TrialFolder(file.parent) for file in (self.root / "search").list("/trial.json", recursive=True)]

    def new_tune_folder(self) -> Location:
        """For Ray Tune's own files."""
        return self.root / f"tune-{time.time_ns()}"

    # --- images that cannot be read ----------------------------------------------------------------------------------

    @property
    def _unreadable(self) -> Location:
        return self.root / "unreadable.json"

    def unreadable(self, identity: Identity) -> Rejects | None:
        """As the first run of this sweep found them; null where none has looked."""
        content = self._unreadable.read_json() if self._unreadable.exists() else {}
        return content["unreadable"] if identity.matches(content.get("identity")) else None

    def write_unreadable(self, identity: Identity, rejects: Rejects) -> None:
        self._unreadable.write_json({"identity": identity.record(), "unreadable": rejects})

    # --- results -----------------------------------------------------------------------------------------------------

    @property
    def _results(self) -> Location:
        return self.root / "results.parquet"

    @property
    def _search(self) -> Location:
        return self.root / "search.parquet"

    @property
    def _chosen(self) -> Location:
        return self.root / "chosen.json"

    def write_results(self, results: pd.DataFrame, chosen: Choice | None) -> None:
        RESULTS.write(self._results, results)
        (self.root / "results.csv").write_bytes(results.to_csv(index=False).encode())
        self._chosen.write_json({} if chosen is None else chosen.as_json())

    def write_search(self, searched: pd.DataFrame) -> None:
        SEARCH.write(self._search, searched)

    def read(self) -> SweepResults:
        """InputError when there are no results, or they lack a column."""
        if not self._results.exists():
            raise InputError(f"no sweep results at {self.uri}: results.parquet is missing; run grmp sweep first")
        trials = RESULTS.read(self._results).sort_values(["lambda", "budget", "split_seed"], ignore_index=True)
        manifest = self._manifest()
        searched = "search" in manifest.get("inputs", {}) and self._search.exists()  # else it is of another sweep
        return SweepResults(self, trials, manifest, self.chosen(), SEARCH.read(self._search) if searched else None)

    def chosen(self) -> Choice | None:
        """Null where no sweep has ended, or it chose nothing since no trial finished."""
        content = self._chosen.read_json() if self._chosen.exists() else {}
        try:
            return Choice.of(content) if content else None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self._chosen.uri} does not say what the sweep chose ({error!r}); run grmp sweep again"
            ) from error

    def _manifest(self) -> dict[str, Any]:
        file = self.root / "manifest.json"
        return file.read_json() if file.exists() else {}

    # --- report ------------------------------------------------------------------------------------------------------

    def write_report(self, html: str, markdown: str, figures: Mapping[str, bytes]) -> tuple[Location, Location]:
        """`figures`: PNG by name. -> report.html, report.md."""
        for name, png in figures.items():
            (self.root / "figures" / f"{name}.png").write_bytes(png)
        files = self.root / "report.html", self.root / "report.md"
        for file, text in zip(files, (html, markdown), strict=True):
            file.write_bytes(text.encode())
        return files

    def files(self, *, searched: bool) -> list[tuple[Location, str]]:
        """The files of a whole sweep that there are, each with the folder below this one that it is in."""
        names = ["manifest.json", "results.parquet", "results.csv", "chosen.json", "report.html", "report.md"]
        here = [self.root / name for name in [*names, *(["search.parquet"] if searched else [])]]
        figures = [(file, "figures") for file in (self.root / "figures").list(".png")]
        return [(file, "") for file in here if file.exists()] + figures

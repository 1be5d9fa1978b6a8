"""Files and columns of a sweep's results."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.storage import Location

COLUMNS = (
    "trial",
    "lambda",
    "data_ratio",
    "shots",
    "budget",
    "split_seed",
    "val_srcc",
    "srcc",
    "plcc",
    "seconds",
    "error",
)


@dataclass(frozen=True)
class SweepResults:
    """What a sweep has left in its folder."""

    place: Location
    trials: pd.DataFrame
    """One row a trial, with the columns of results.parquet."""
    manifest: dict[str, Any]
    """Empty while the sweep has not ended."""
    chosen: dict[str, Any] | None
    """Null while nothing was chosen, such as when every trial failed."""
    searched: pd.DataFrame | None = None
    """One row a setting that a search tried, as in search.parquet; null for a plain grid."""

    @property
    def finished(self) -> pd.DataFrame:
        return self.trials[self.trials["error"].isna()]

    @property
    def failed(self) -> pd.DataFrame:
        return self.trials[self.trials["error"].notna()]

    def trial_file(self, trial: str, name: str) -> Location:
        return self.place / "trials" / trial / name


def read_sweep(place: Location) -> SweepResults:
    """Read a sweep's folder. InputError when there is none, or its results lack a column."""
    file = place / "results.parquet"
    if not file.exists():
        raise InputError(f"no sweep results at {place.uri}: results.parquet is missing; run grmp sweep first")
    trials = pd.read_parquet(io.BytesIO(file.read_bytes()))
    missing = [name for name in COLUMNS if name not in trials.columns]
    if missing:
        raise InputError(f"{file.uri} lacks the columns {', '.join(missing)}; it is not a sweep's results.parquet")
    manifest = (place / "manifest.json").read_json() if (place / "manifest.json").exists() else {}
    chosen = (place / "chosen.json").read_json() if (place / "chosen.json").exists() else {}
    trials = trials.sort_values(["lambda", "budget", "split_seed"])
    tried = place / "search.parquet"
    searched = None
    if "search" in manifest.get("inputs", {}) and tried.exists():  # else it is left of another sweep in this folder
        searched = pd.read_parquet(io.BytesIO(tried.read_bytes()))
    return SweepResults(place, trials.reset_index(drop=True), manifest, chosen or None, searched)


METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")
_NUMBERS = ("val_srcc", *METRICS, "seconds")  # of a row, NaN where not defined


def search_name(settings: dict[str, Any]) -> str:
    """Name and folder of a searched setting; all digits, so that no two settings share it."""
    return ",".join(f"{key}={value}" for key, value in settings.items())


def search_place(sweep: Location, trial: str) -> Location:
    return sweep / "search" / trial


def search_row(
    settings: dict[str, Any],
    cell: dict[str, Any],
    val_srcc: float,
    epochs: int,
    seconds: float,
    *,
    stopped: bool = False,
    error: str | None = None,
) -> dict[str, Any]:
    """What a search keeps of one setting; `epochs` are those after which validation SRCC was best."""
    row = {"trial": search_name(settings), **settings, "shots": cell["shots"], "split_seed": cell["split_seed"]}
    return row | {"val_srcc": val_srcc, "epochs": epochs, "seconds": seconds, "stopped": stopped, "error": error}


def write_row(place: Location, identity: str, row: dict[str, Any]) -> None:
    """`trial.json`, which makes a trial count as finished."""
    (place / "trial.json").write_json({"identity": identity, "row": row})


def finished_row(place: Location, identity: str) -> dict[str, Any] | None:
    """The result row of a trial that was finished with the same settings and data."""
    marker = place / "trial.json"
    if not marker.exists():
        return None
    content = marker.read_json()
    if content["identity"] != identity:
        return None
    undefined = {name: math.nan for name in _NUMBERS if content["row"].get(name, 0) is None}  # null in JSON
    return content["row"] | undefined


def to_parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()

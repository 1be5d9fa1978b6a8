"""lambda x labels x split seeds with Ray Tune, after a search for the other hyperparameters where one is asked for.

Resumable after any death: a trial leaves what it finds on disk, and the same command again runs only what is missing.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines.configuration.loading import with_settings
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows, load_target
from pipelines.few_shot.starting_model import check_adaptation, initial_prompts
from pipelines.reporting.sweep_report import write_report
from pipelines.results.sweep_folder import to_parquet
from pipelines.runtime.capacity import require_trial
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import output_place, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.sweeping.grid import check_plan, choose, largest_shots, plan_trials, sweep_identity
from pipelines.sweeping.grid_run import run_grid
from pipelines.sweeping.search import Searched, search
from pipelines.sweeping.search_space import read_space
from pipelines.sweeping.trial_pool import Runner
from pipelines.tracking.tracker import open_tracking

_MARK = "begun.json"
_RESULTS = ("chosen.", "manifest.", "report.", "results.", "search.")
"""What the names of files begin with that say something of a whole sweep."""


@dataclass(frozen=True)
class Sweep:
    """Result of `grmp sweep`."""

    results: pd.DataFrame
    chosen: dict[str, Any] | None
    place: str
    searched: Searched | None = None
    """Null where the grid is all there is."""

    def as_json(self) -> dict[str, Any]:
        content = {"results": json.loads(self.results.to_json(orient="records")), "chosen": self.chosen}
        if self.searched is not None:
            content["searched"] = json.loads(self.searched.rows.to_json(orient="records"))
        return content

    def as_text(self) -> str:
        good = self.results[self.results["error"].isna()]
        by_cell = good.groupby(["budget", "lambda"])
        rows = [
            {
                "shots": shots,
                "lambda": strength,
                "splits": len(cell),
                "SRCC median": cell["srcc"].median(),
                "IQR": f"{cell['srcc'].quantile(0.25):.3f}-{cell['srcc'].quantile(0.75):.3f}",
                "PLCC median": cell["plcc"].median(),
                "val SRCC": cell["val_srcc"].median(),
                "epochs": cell["epochs"].median(),
            }
            for (shots, strength), cell in by_cell
        ]
        failed = self.results[self.results["error"].notna()]
        lines = [] if self.searched is None else [self.searched.text]
        lines += [table(rows), *(f"failed: {row.trial}: {row.error}" for row in failed.itertuples())]
        if self.chosen:
            lines.append(f"chosen: lambda {self.chosen['lambda']:g} ({self.chosen['reason']})")
        return "\n".join([*lines, self.place])


def run_sweep(config: Config) -> Sweep:
    """Adapt once per lambda, number of shots, and split; write `<output>/sweep` with its report, and log it to MLflow.

    Finished trials are not run again.
    """
    started = time.time()
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    place = output_place(config, "sweep")
    space = read_space(config)
    start = initial_prompts(config)
    target = load_target(config.target)
    identity = sweep_identity(config, start, target.fingerprint())
    check_plan(config, space, target.reference_ids)
    check_adaptation(config, start)
    _check_resume(config, place, identity)
    _say_plan(config)
    searched = None
    with ray_session():
        require_trial(config, "a trial wants")
        runner = Runner(config, start, target, place, identity)
        cells = check_plan(config, space, runner.reference_ids)  # without the images that cannot be read
        started -= _begin(place, identity)
        if space:
            searched = search(config, space, largest_shots(cells), runner)
            config = with_settings(config, searched.settings)
            cells = plan_trials(config, runner.reference_ids, searched.settings)
        results, errors = run_grid(config, cells, runner, sweep_identity(config, start, target.fingerprint()))
    chosen = choose(results, searched)
    _write_results(place, results, chosen)
    inputs = {"identity": identity, "target": target.fingerprint(), "prompts": start.provenance.get("tasks")}
    counts = {"images": target.table.num_rows, "trials": len(cells), "failed": len(errors)}
    if searched is not None:
        inputs |= {"search": searched.text, "settings": searched.settings}
        counts |= {"searched": len(searched.rows)}
    rejected = (*bad_rows(target), *runner.unreadable)
    write_manifest(place, "sweep", config, started, inputs=inputs, counts=counts, rejected=rejected)
    write_report(config)
    tracking.log_sweep(place)
    if len(errors) == len(cells):
        raise RuntimeError(f"all {len(cells)} trials failed; the first: {next(iter(errors.values()))}")
    return Sweep(results, chosen, place.uri, searched)


def _check_resume(config: Config, place: Location, identity: str) -> None:
    """InputError when only going on is allowed and there is nothing to go on with. Leaves a mark where none is."""
    begun = _begun(place)
    if config.sweep.resume and begun.get("identity") != identity:
        why = "the sweep there has other settings, data or prompts" if begun else "no sweep has begun there"
        raise InputError(f"nothing to resume at {place.uri}: {why}; run grmp sweep without --resume to start one")
    if not begun:
        (place / _MARK).write_json({"identity": identity})


def _begun(place: Location) -> dict[str, Any]:
    mark = place / _MARK
    return mark.read_json() if mark.exists() else {}


def _begin(place: Location, identity: str) -> float:
    """Leave a mark for `--resume`, and no result of another sweep; -> seconds that earlier runs of the same one took.

    Only once nothing is left that could refuse this one.
    """
    manifest, begun = place / "manifest.json", _begun(place)
    if begun and begun.get("identity") != identity:
        say(f"sweep: {place.uri} holds a sweep with other settings, data or prompts; this one takes its place")
        for file in place.list():  # its trials are replaced one by one
            if file.name.startswith(_RESULTS):
                file.delete()
    (place / _MARK).write_json({"identity": identity})
    before = manifest.read_json() if manifest.exists() else {}
    return before["seconds"] if before.get("inputs", {}).get("identity") == identity else 0.0


def _say_plan(config: Config) -> None:
    if not config.sweep.shots and not config.sweep.ratios:
        say("sweep: neither sweep.shots nor sweep.ratios is set: every trial labels the whole training part (ratio 1)")


def _write_results(place: Location, results: pd.DataFrame, chosen: dict[str, Any] | None) -> None:
    (place / "results.parquet").write_bytes(to_parquet(results))
    (place / "results.csv").write_bytes(results.to_csv(index=False).encode())
    (place / "chosen.json").write_json(chosen or {})

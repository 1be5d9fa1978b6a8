"""Running the trials of a grid and collecting their rows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from ray import tune

from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import METRICS, finished_row
from pipelines.runtime.console import say
from pipelines.sweeping.grid import largest_shots
from pipelines.sweeping.trial import grid_trial
from pipelines.sweeping.trial_pool import Batch, Cell, Runner


def run_grid(config: Config, cells: list[Cell], runner: Runner, identity: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """-> the results table, and the error of every trial that kept failing."""
    place = runner.place
    todo = [cell for cell in cells if finished_row(place / "trials" / cell["trial"], identity) is None]
    todo.sort(key=lambda cell: (cell["shots"], cell["lambda"] > 0), reverse=True)  # no long trial runs alone at the end
    say(f"sweep: {len(cells)} trials, {len(cells) - len(todo)} already finished")
    errors: dict[str, str] = {}
    if todo:
        shared = runner.shared_as(config, identity)
        batch = Batch(
            trainable=grid_trial,
            space={"cell": tune.grid_search(todo)},
            constants={"shared": shared},
            total=len(todo),
            name_of=lambda params: params["cell"]["trial"],
            largest=largest_shots(todo),
        )
        errors = {params["cell"]["trial"]: error for params, error in runner.run(batch)}
    return _collect(place, cells, identity, errors), errors


def _collect(place: Location, cells: list[Cell], identity: str, errors: dict[str, str]) -> pd.DataFrame:
    rows = []
    for cell in cells:
        trial = place / "trials" / cell["trial"]
        row = None if cell["trial"] in errors else finished_row(trial, identity)
        if row is not None:
            row["bundle"] = (trial / "bundle").uri  # where it is now: an output may have moved
        nothing: dict[str, Any] = dict.fromkeys(("val_srcc", *METRICS, "seconds"), math.nan)
        nothing |= {"logistic_converged": False, "epochs": 0, "bundle": None}
        unfinished = {**nothing, "error": errors.get(cell["trial"], "was not finished")}
        rows.append({**(row or unfinished), **cell})  # a budget belongs to the grid, not to the trial
    columns = [*cells[0], "val_srcc", *METRICS, "logistic_converged", "epochs", "seconds", "bundle", "error"]
    return pd.DataFrame(rows, columns=columns).sort_values(["budget", "lambda", "split_seed"], ignore_index=True)

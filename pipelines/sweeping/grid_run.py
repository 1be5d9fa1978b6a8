"""Running the trials of a grid and collecting their results."""

from __future__ import annotations

import pandas as pd
from ray import tune

from grmp_core.identity import Identity
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import results_frame
from pipelines.results.trial import Trial, TrialResult
from pipelines.runtime.console import say
from pipelines.sweeping.grid import largest_shots
from pipelines.sweeping.trial_pool import Runner, TrialGroup
from pipelines.sweeping.trial_worker import grid_trial


def run_grid(
    config: Config, trials: list[Trial], runner: Runner, identity: Identity
) -> tuple[pd.DataFrame, dict[str, str]]:
    """-> the results table, and the error of every trial that kept failing."""
    folder = runner.folder
    todo = [trial for trial in trials if folder.trial(trial.name).result(identity) is None]
    todo.sort(key=lambda trial: (trial.shots, trial.strength > 0), reverse=True)  # no long trial runs alone at the end
    say(f"sweep: {len(trials)} trial{'s' if len(trials) != 1 else ''}, {len(trials) - len(todo)} already finished")
    errors: dict[str, str] = {}
    if todo:
        group = TrialGroup(
            trainable=grid_trial,
            space={"trial": tune.grid_search([trial.name for trial in todo])},
            constants={"shared": runner.shared_as(config, identity), "trials": {t.name: t for t in todo}},
            total=len(todo),
            name_of=lambda params: params["trial"],
            largest=largest_shots(todo),
        )
        errors = {params["trial"]: error for params, error in runner.run(group)}
    return _collect(folder, trials, identity, errors), errors


def _collect(folder: SweepFolder, trials: list[Trial], identity: Identity, errors: dict[str, str]) -> pd.DataFrame:
    rows = []
    for trial in trials:
        result = None if trial.name in errors else folder.trial(trial.name).result(identity)
        rows.append((trial, result or TrialResult(error=errors.get(trial.name, "was not finished"))))
    return results_frame(rows)

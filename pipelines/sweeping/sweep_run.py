"""lambda x labels x split seeds with Ray Tune, after a search for the other hyperparameters where one is asked for.

Resumable after any death: a trial leaves what it finds on disk, and the same command again runs only what is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.identity import Identity, listed
from pipelines.configuration.loading import with_settings
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import Start
from pipelines.few_shot.labelled_target import bad_rows, load_target
from pipelines.few_shot.starting_model import check_adaptation, initial_prompts
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.reporting.sweep_report import write_report
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.trial import Choice
from pipelines.runtime.capacity import require_trial
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.sweeping.grid import check_plan, choose, largest_shots, plan_trials, sweep_identity
from pipelines.sweeping.grid_run import run_grid
from pipelines.sweeping.search import Searched, search
from pipelines.sweeping.search_space import read_space
from pipelines.sweeping.trial_pool import Runner
from pipelines.tracking.run_records import PROMPTS
from pipelines.tracking.system_metrics import system_metrics
from pipelines.tracking.tracker import open_tracking


@dataclass(frozen=True)
class Sweep:
    """Result of `grmp sweep`."""

    results: pd.DataFrame
    """One row a trial: `results.tables.RESULTS`."""
    chosen: Choice | None
    folder: str
    """URI of the sweep's folder."""
    searched: Searched | None = None
    """Null for a plain grid."""

    def as_json(self) -> dict[str, Any]:
        chosen = None if self.chosen is None else self.chosen.as_json()
        content = {"results": json.loads(self.results.to_json(orient="records")), "chosen": chosen}
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
            lines.append(f"chosen: lambda {self.chosen.strength:g} ({self.chosen.reason})")
        return "\n".join([*lines, self.folder])


def run_sweep(config: Config, also: Sequence[Start] = ()) -> Sweep:
    """Adapt once per lambda, number of shots, and split; write `<output>/sweep` with its report, and log it to MLflow.

    Finished trials are not run again.

    Args:
        also: starts of later sweeps of the same target, to be encoded in the same pass over its images.
    """
    started = time.time()
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    folder = SweepFolder.of(config.output)
    space = read_space(config)
    start = initial_prompts(config)
    target = load_target(config.target)
    protocol = target_protocol(config, target)
    identity = sweep_identity(config, start, target.fingerprint(), protocol)
    check_plan(config, space, protocol)
    check_adaptation(config, start)
    _check_begun(config, folder, identity)
    if not config.sweep.shots and not config.sweep.ratios:
        say("sweep: neither sweep.shots nor sweep.ratios is set: every trial labels the whole training part (ratio 1)")
    searched = None
    with ray_session(), system_metrics(config, folder.root, identity.digest):
        require_trial(config, "a trial wants")
        runner = Runner(config, start, target, protocol, folder, identity, also)
        trials = check_plan(config, space, runner.protocol)  # without the images that cannot be read
        started -= folder.begin(identity)  # only now, when nothing is left that could refuse this sweep
        if space:
            searched = search(config, space, largest_shots(trials), runner)
            config = with_settings(config, searched.settings)
            trials = plan_trials(config, runner.protocol, searched.settings)
        settled = sweep_identity(config, start, target.fingerprint(), protocol)
        results, errors = run_grid(config, trials, runner, settled)
    chosen = choose(results, None if searched is None else searched.settings)
    folder.write_results(results, chosen)
    inputs = {"identity": identity.digest, "target": target.fingerprint(), "prompts": start.provenance.get("tasks")}
    inputs |= {PROMPTS: start.digest}
    counts = {"images": target.table.num_rows, "trials": len(trials), "failed": len(errors)}
    if searched is not None:
        inputs |= {"search": searched.text, "settings": searched.settings}
        counts |= {"searched": len(searched.rows)}
    rejected = (*bad_rows(target), *runner.unreadable)
    write_manifest(folder.root, "sweep", config, started, inputs=inputs, counts=counts, rejected=rejected)
    write_report(config)
    tracking.log("sweep", folder.root)
    if len(errors) == len(trials):
        raise RuntimeError(f"all {len(trials)} trials failed; the first: {next(iter(errors.values()))}")
    return Sweep(results, chosen, folder.uri, searched)


def _check_begun(config: Config, folder: SweepFolder, identity: Identity) -> None:
    """InputError for a sweep of an earlier version, and when only going on is allowed but there is nothing to go on
    with. Leaves the record of a sweep where there is none."""
    begun = folder.begun()
    changes = [] if begun is None else identity.changes_from(begun)
    if config.sweep.resume and (begun is None or changes):
        why = f"the sweep there is another one: {listed(changes)}" if changes else "no sweep has begun there"
        raise InputError(f"nothing to resume at {folder.uri}: {why}; run grmp sweep without --resume to start one")
    if changes:
        say(f"sweep: this one takes the place of the sweep at {folder.uri}: {listed(changes)}")
    if begun is None:
        folder.begin(identity)

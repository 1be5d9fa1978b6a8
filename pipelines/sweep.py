"""lambda x labels x split seeds with Ray Tune, after a search for the other hyperparameters where one is asked for.

Resumable after any death: a trial leaves what it finds on disk, and the same command again runs only what is missing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Any

import pandas as pd
from ray import tune

from grmp_core import protocol
from grmp_core.adapt import folds_of
from grmp_core.bundle import Bundle
from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines import report
from pipelines.config import Config
from pipelines.resources import require_trial
from pipelines.runner import Batch, Cell, Runner
from pipelines.search import Searched, Space, search
from pipelines.search_space import highest, read_space
from pipelines.session import config_hash, output_place, ray_session, say, table, write_manifest
from pipelines.target import bad_rows, check_adaptation, initial_prompts, load_target
from pipelines.tracking import open_tracking
from pipelines.trials import METRICS, finished_row, grid_trial, to_parquet, with_settings

FOLDS = "adapt.folds"
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


def run(config: Config) -> Sweep:
    """Adapt once per lambda, number of shots, and split; write `<output>/sweep` with its report, and log it to MLflow.

    Finished trials are not run again.
    """
    started = time.time()
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    place = output_place(config, "sweep")
    space = read_space(config)
    start = initial_prompts(config)
    target = load_target(config.target)
    identity = _identity(config, start, target.fingerprint())
    _check_plan(config, space, target.reference_ids)
    check_adaptation(config, start)
    _check_resume(config, place, identity)
    _say_plan(config)
    searched = None
    with ray_session():
        require_trial(config, "a trial wants")
        runner = Runner(config, start, target, place, identity)
        cells = _check_plan(config, space, runner.reference_ids)  # without the images that cannot be read
        started -= _begin(place, identity)
        if space:
            searched = search(config, space, _largest(cells), runner)
            config = with_settings(config, searched.settings)
            cells = plan_trials(config, runner.reference_ids, searched.settings)
        results, errors = _run_grid(config, cells, runner, _identity(config, start, target.fingerprint()))
    chosen = choose(results, searched)
    _write_results(place, results, chosen)
    inputs = {"identity": identity, "target": target.fingerprint(), "prompts": start.provenance.get("tasks")}
    counts = {"images": target.table.num_rows, "trials": len(cells), "failed": len(errors)}
    if searched is not None:
        inputs |= {"search": searched.text, "settings": searched.settings}
        counts |= {"searched": len(searched.rows)}
    rejected = (*bad_rows(target), *runner.unreadable)
    write_manifest(place, "sweep", config, started, inputs=inputs, counts=counts, rejected=rejected)
    report.run(config)
    tracking.log_sweep(place)
    if len(errors) == len(cells):
        raise RuntimeError(f"all {len(cells)} trials failed; the first: {next(iter(errors.values()))}")
    return Sweep(results, chosen, place.uri, searched)


def plan_trials(config: Config, reference_ids: Sequence[str], settings: Mapping[str, Any] | None = None) -> list[Cell]:
    """The grid: dicts with trial, lambda, shots, budget, data_ratio, split_seed, and the settings that a search found.

    `budget` names what belongs together: the shots, or where a ratio asks for them, whose shots differ between splits,
    their median. InputError for shots that do not exist, and for two entries that come to the same trial.
    """
    splits = [protocol.split(reference_ids, seed, config.sweep.test_fraction) for seed in config.sweep.split_seeds]
    shots_BS = [[shots] * len(splits) for shots in config.sweep.shots] or [
        [protocol.shots_from_ratio(split, ratio) for split in splits] for ratio in config.sweep.ratios or (1.0,)
    ]
    cells = []
    for s, split in enumerate(splits):
        for shots_S in shots_BS:
            labelled = protocol.draw_shots(split, shots_S[s], split.seed)
            folds_of(config.adapt, [reference_ids[row] for row in labelled], split.seed)
            cells += [
                {
                    "trial": f"lambda={strength:g}-shots={shots_S[s]}-seed={split.seed}",
                    "lambda": strength,
                    "data_ratio": shots_S[s] / len(split.train),
                    "shots": shots_S[s],
                    "budget": median_high(shots_S),
                    "split_seed": split.seed,
                    **(settings or {}),
                }
                for strength in config.sweep.lambdas
            ]
    _refuse_twice([cell["trial"] for cell in cells])
    return cells


def _refuse_twice(names: list[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise InputError(
            f"the sweep has two trials {twice}; leave out what is there twice in sweep.lambdas, sweep.shots or "
            "sweep.split_seeds, or of sweep.ratios one that comes to the same number of images as another"
        )


def choose(results: pd.DataFrame, searched: Searched | None = None) -> dict[str, Any] | None:
    """The model to register, by validation only: at the largest budget, the lambda with the best median validation
    SRCC, and of its splits the one with the best validation SRCC. None when no trial has a validation SRCC."""
    good = results[results["error"].isna() & results["val_srcc"].notna()]
    if good.empty:
        return None
    largest = good[good["budget"] == good["budget"].max()]
    medians = largest.groupby("lambda")["val_srcc"].median()
    strength = float(medians.idxmax())
    best = largest[largest["lambda"] == strength].sort_values("val_srcc", ascending=False).iloc[0]
    reason = f"best median validation SRCC {medians.max():.3f} at {int(best['budget'])} shots; test scores took no part"
    found = {} if searched is None else {"settings": searched.settings}
    return {
        **found,
        "lambda": strength,
        "shots": int(best["shots"]),
        "trial": best["trial"],
        "bundle": best["bundle"],
        "reason": reason,
    }


def _check_plan(config: Config, space: Space, reference_ids: Sequence[str]) -> list[Cell]:
    """The trials. InputError for what cannot be, with the most folds that a search may settle on where it has a say."""
    most = {FOLDS: highest(space[FOLDS])} if FOLDS in space else {}
    return plan_trials(with_settings(config, most), reference_ids)


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


def _largest(cells: list[Cell]) -> Cell:
    """The cell with the most shots, of the first split seed that has it."""
    return max(cells, key=lambda cell: cell["shots"])


def _run_grid(config: Config, cells: list[Cell], runner: Runner, identity: str) -> tuple[pd.DataFrame, dict[str, str]]:
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
            largest=_largest(todo),
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


def _write_results(place: Location, results: pd.DataFrame, chosen: dict[str, Any] | None) -> None:
    (place / "results.parquet").write_bytes(to_parquet(results))
    (place / "results.csv").write_bytes(results.to_csv(index=False).encode())
    (place / "chosen.json").write_json(chosen or {})


def _identity(config: Config, start: Bundle, target_fingerprint: str) -> str:
    """Differs when any setting or input that decides about a trial's numbers differs.

    sweep.cpus_per_trial is not one of them: of another number of threads, sums differ in their last bits only.
    """
    prompts = {name: tensor.numpy().tobytes() for name, tensor in sorted(start.parameters.items())}
    return config_hash(
        config.seed,
        config.precision,
        config.views,
        config.adapt,
        config.images,
        config.sweep.test_fraction,
        dataclasses.replace(config.backbone, checkpoint=None),  # where the weights lie does not matter
        start.backbone_sha256,
        start.prompts,
        prompts,
        target_fingerprint,
    )


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("sweep")

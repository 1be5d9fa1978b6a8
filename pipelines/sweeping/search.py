"""`sweep.search: random | optuna`: settle further hyperparameters by validation SRCC, before the grid is run.

Every setting is validated on the same labels: the most shots of the first split seed. Random settings depend on `seed`
alone. Those of Optuna (TPE) also depend on the order in which trials end, so on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from grmp_core.seeds import seed_of
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import finished_row, search_name, search_place, search_row, to_parquet, write_row
from pipelines.runtime.console import say
from pipelines.runtime.provenance import config_hash
from pipelines.sweeping.search_space import highest
from pipelines.sweeping.trial import WORST_SRCC, search_trial
from pipelines.sweeping.trial_pool import Batch, Cell, Runner

Space = Mapping[str, BaseDistribution]
Settings = dict[str, Any]
_KEPT_ONE_IN = 3  # settings that go on at every rung of ASHA; its paper uses 3 and 4
_SEED_RANGE = 2**32


@dataclass(frozen=True)
class Searched:
    """What a search tried and what won."""

    rows: pd.DataFrame
    """One row a setting, best first: trial, the searched keys, shots, split_seed, val_srcc, epochs, seconds, stopped,
    error, won."""
    settings: Settings
    """Of the winner, by key."""
    text: str
    """The same in a sentence."""


def search(config: Config, space: Space, cell: Cell, runner: Runner) -> Searched:
    """Try settings on the labels of `cell` and write `search.parquet`; finished ones are not tried again.

    The winner has the best validation SRCC of those that were not stopped early. Raises RuntimeError when none has any.
    """
    wanted = config.sweep
    identity = config_hash(runner.identity, sorted(space.items()), cell["shots"], cell["split_seed"], wanted.asha)
    plan = random_settings(space, wanted.samples, config.seed) if wanted.search == "random" else None
    rows = _finished(runner.place, identity, plan)
    total = wanted.samples - len(rows) if plan is None else len(plan) - len(rows)
    say(f"sweep: {wanted.search} search, {wanted.samples} settings, {len(rows)} already finished")
    if total > 0:
        failures = runner.run(_batch(config, space, cell, runner, identity, plan, rows, total))
        rows = _finished(runner.place, identity, plan)
        rows += [_failed_row(params["settings"], cell, error) for params, error in failures]
    return _settle(config, space, cell, runner.place, rows)


def random_settings(space: Space, samples: int, seed: int) -> list[Settings]:
    """Drawn independently of each other, so that more samples begin with the fewer; a repeated one counts once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed_of("search", seed) % _SEED_RANGE))
    drawn = [study.ask(dict(space)).params for _ in range(samples)]
    return list({search_name(settings): settings for settings in drawn}.values())


def _batch(
    config: Config,
    space: Space,
    cell: Cell,
    runner: Runner,
    identity: str,
    plan: list[Settings] | None,
    rows: list[dict[str, Any]],
    total: int,
) -> Batch:
    options: dict[str, Any] = {}
    params: dict[str, Any] = {}
    if plan is None:
        options = {"search_alg": _optuna(space, rows, config.seed), "num_samples": total}
    else:
        done = {row["trial"] for row in rows}
        params["settings"] = tune.grid_search([s for s in plan if search_name(s) not in done])
    if config.sweep.asha:
        options["scheduler"] = _asha(config, space)

    def keep_stopped(params: dict[str, Any], result: dict[str, Any]) -> None:
        """A stopped trial has no time to write its row."""
        if not result["ended"]:
            best = result["val_srcc"] if result["epochs"] else math.nan  # no epoch had a validation SRCC
            row = search_row(params["settings"], cell, best, result["epochs"], result["seconds"], stopped=True)
            write_row(search_place(runner.place, row["trial"]), identity, row)

    return Batch(
        trainable=search_trial,
        space=params,
        constants={"shared": runner.shared_as(config, identity), "cell": cell},
        total=total,
        name_of=lambda params: setting_text(params["settings"]),
        largest=cell,
        on_end=keep_stopped,
        tune_options=options,
    )


def _optuna(space: Space, rows: Iterable[dict[str, Any]], seed: int) -> OptunaSearch:
    """Knows what earlier runs found; a seed of its own for every start, else it would suggest the same again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = [row for row in rows if not row["stopped"]]
    searcher = OptunaSearch(
        {f"settings/{key}": distribution for key, distribution in space.items()},
        metric="val_srcc",
        mode="max",
        seed=seed_of("search", seed, len(known)) % _SEED_RANGE,
    )
    for row in known:
        found = WORST_SRCC if row["val_srcc"] is None or pd.isna(row["val_srcc"]) else row["val_srcc"]
        searcher.add_evaluated_point({f"settings/{key}": row[key] for key in space}, found)
    return searcher


def _asha(config: Config, space: Space) -> ASHAScheduler:
    """Judges at 1/9, 1/3 and all of the epochs."""
    epochs = highest(space["adapt.epochs"]) if "adapt.epochs" in space else config.adapt.epochs
    first = max(epochs // _KEPT_ONE_IN**2, 1)
    return ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=first, reduction_factor=_KEPT_ONE_IN)


def _finished(place: Location, identity: str, plan: list[Settings] | None) -> list[dict[str, Any]]:
    """Rows of the trials that ended: of the plan, or whichever Optuna suggested."""
    markers = (place / "search").list("trial.json", recursive=True)
    names = [marker.path.rsplit("/", 2)[-2] for marker in markers] if plan is None else map(search_name, plan)
    found = (finished_row(search_place(place, name), identity) for name in names)
    return [row for row in found if row is not None]


def _failed_row(settings: Settings, cell: Cell, error: str) -> dict[str, Any]:
    return search_row(settings, cell, math.nan, 0, math.nan, error=error)


def _settle(config: Config, space: Space, cell: Cell, place: Location, rows: list[dict[str, Any]]) -> Searched:
    frame = pd.DataFrame(rows).sort_values(["val_srcc", "trial"], ascending=[False, True], ignore_index=True)
    frame["val_srcc"] = frame["val_srcc"].astype(float)
    able = frame[~frame["stopped"] & frame["error"].isna() & frame["val_srcc"].notna()]
    frame["won"] = frame.index == (able.index[0] if len(able) else -1)
    (place / "search.parquet").write_bytes(to_parquet(frame))
    if able.empty:
        reasons = frame["error"].dropna()
        why = reasons.iloc[0] if len(reasons) else "validation SRCC is not defined for any"
        raise RuntimeError(f"none of the {len(frame)} settings of the search can be used: {why}")
    best = able.iloc[0]
    trial = next(row for row in rows if row["trial"] == best["trial"])
    settings = {key: trial[key] for key in space}
    text = (
        f"{config.sweep.search} search over {', '.join(space)}: {len(frame)} settings ({int(frame['stopped'].sum())} "
        f"stopped early, {int(frame['error'].notna().sum())} failed) at {cell['shots']} shots of split seed "
        f"{cell['split_seed']}; {setting_text(settings)} won with validation SRCC {best['val_srcc']:.3f}"
    )
    say(f"sweep: {text}")
    return Searched(frame, settings, text)


def setting_text(settings: Mapping[str, Any]) -> str:
    """For people: `adapt.lr 0.0316, adapt.epochs 20`."""
    texts = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in settings.items()}
    return ", ".join(f"{key} {text}" for key, text in texts.items())

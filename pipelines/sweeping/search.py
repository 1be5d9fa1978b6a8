"""`sweep.search: random | optuna`: settle further hyperparameters by validation SRCC, before the grid is run.

Every setting is validated on the same labels: the most shots of the first split seed. Random settings depend on `seed`
alone. Those of Optuna (TPE) also depend on the order in which trials end, so on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.samplers import RandomSampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from grmp_core.identity import Identity
from grmp_core.seeds import seed_of
from pipelines.configuration.loading import LAMBDA
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import search_frame
from pipelines.results.trial import SettingResult, Settings, Trial, setting_name
from pipelines.runtime.console import say
from pipelines.sweeping.search_space import Space, highest
from pipelines.sweeping.trial_pool import Runner, TrialGroup
from pipelines.sweeping.trial_worker import WORST_SRCC, search_trial

_KEPT_ONE_IN = 3  # settings that go on at every rung of ASHA; its paper uses 3 and 4
_SEED_RANGE = 2**32


@dataclass(frozen=True)
class Searched:
    """The settings that a search tried, and the winner."""

    rows: pd.DataFrame
    """One row a setting, best first: `results.tables.SEARCH`."""
    settings: Settings
    """Of the winner."""
    text: str
    """The same in a sentence."""


def search(config: Config, space: Space, trial: Trial, runner: Runner) -> Searched:
    """Try settings on the labels of `trial` and write `search.parquet`; finished ones are not tried again.

    The winner has the best validation SRCC of those that were not stopped early. Raises RuntimeError when none has any.
    """
    options = config.sweep
    identity = _search_identity(config, space, trial, runner.identity)
    plan = random_settings(space, options.samples, config.seed) if options.search == "random" else None
    ended = _ended(runner.folder, identity, plan)
    total = options.samples - len(ended) if plan is None else len(plan) - len(ended)
    say(f"sweep: {options.search} search, {options.samples} settings, {len(ended)} already finished")
    if total > 0:
        failures = runner.run(_group(config, space, trial, runner, identity, plan, ended, total))
        ended = _ended(runner.folder, identity, plan)
        ended += [_setting_result(params["settings"], trial, error=error) for params, error in failures]
    return _settle(config, space, trial, runner.folder, ended)


def random_settings(space: Space, samples: int, seed: int) -> list[Settings]:
    """Drawn independently of each other, so that more samples begin with the fewer; a repeated one counts once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed_of("search", seed) % _SEED_RANGE))
    drawn = [study.ask(dict(space)).params for _ in range(samples)]
    return list({setting_name(settings): settings for settings in drawn}.values())


def _search_identity(config: Config, space: Space, trial: Trial, sweep: Identity) -> Identity:
    """That of the sweep, with all else that decides about a search."""
    parts = {
        "sweep.space": {key: repr(distribution) for key, distribution in space.items()},
        "sweep.asha": config.sweep.asha,
        "shots": trial.shots,
        "split_seed": trial.split_seed,
    }
    return sweep.extended(parts if LAMBDA in space else {**parts, LAMBDA: config.adapt.qgr.strength})


def _group(
    config: Config,
    space: Space,
    trial: Trial,
    runner: Runner,
    identity: Identity,
    plan: list[Settings] | None,
    ended: list[SettingResult],
    total: int,
) -> TrialGroup:
    options: dict[str, Any] = {}
    params: dict[str, Any] = {}
    if plan is None:
        options = {"search_alg": _optuna(space, ended, config.seed), "num_samples": total}
    else:
        done = {result.name for result in ended}
        params["settings"] = tune.grid_search([s for s in plan if setting_name(s) not in done])
    if config.sweep.asha:
        options["scheduler"] = _asha(config, space)

    def keep_stopped(params: dict[str, Any], report: dict[str, Any]) -> None:
        """A stopped trial has no time to write its result."""
        if not report["ended"]:
            best = report["val_srcc"] if report["epochs"] else math.nan  # no epoch had a validation SRCC
            measured = {"val_srcc": best, "epochs": report["epochs"], "seconds": report["seconds"], "stopped": True}
            result = _setting_result(params["settings"], trial, **measured)
            runner.folder.setting(result.settings).finish(identity, result.as_row())

    return TrialGroup(
        trainable=search_trial,
        space=params,
        constants={"shared": runner.shared_as(config, identity), "trial": trial},
        total=total,
        name_of=lambda params: setting_text(params["settings"]),
        largest=trial,
        on_end=keep_stopped,
        tune_options=options,
    )


def _setting_result(settings: Settings, trial: Trial, **measured: Any) -> SettingResult:
    return SettingResult(settings=settings, shots=trial.shots, split_seed=trial.split_seed, **measured)


def _optuna(space: Space, ended: Iterable[SettingResult], seed: int) -> OptunaSearch:
    """Told what earlier runs measured; with a seed of its own for every start, else it would suggest the same again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole = [result for result in ended if not result.stopped]
    searcher = OptunaSearch(
        {f"settings/{key}": distribution for key, distribution in space.items()},
        metric="val_srcc",
        mode="max",
        seed=seed_of("search", seed, len(whole)) % _SEED_RANGE,
    )
    for result in whole:
        val_srcc = WORST_SRCC if math.isnan(result.val_srcc) else result.val_srcc
        searcher.add_evaluated_point({f"settings/{key}": result.settings[key] for key in space}, val_srcc)
    return searcher


def _asha(config: Config, space: Space) -> ASHAScheduler:
    """Judges at 1/9, 1/3 and all of the epochs."""
    epochs = highest(space["adapt.epochs"]) if "adapt.epochs" in space else config.adapt.epochs
    first = max(epochs // _KEPT_ONE_IN**2, 1)
    return ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=first, reduction_factor=_KEPT_ONE_IN)


def _ended(folder: SweepFolder, identity: Identity, plan: list[Settings] | None) -> list[SettingResult]:
    """Of the plan, or of all settings that Optuna suggested."""
    folders = folder.settings_tried() if plan is None else [folder.setting(settings) for settings in plan]
    results = (one.setting_result(identity) for one in folders)
    return [result for result in results if result is not None]


def _settle(config: Config, space: Space, trial: Trial, folder: SweepFolder, ended: list[SettingResult]) -> Searched:
    eligible = (result for result in ended if result.eligible)
    best = min(eligible, key=lambda result: (-result.val_srcc, result.name), default=None)
    frame = search_frame(ended, best)
    folder.write_search(frame)
    if best is None:
        why = next((r.error for r in ended if r.error is not None), "validation SRCC is not defined for any")
        raise RuntimeError(f"none of the {len(ended)} settings of the search can be used: {why}")
    settings = {key: best.settings[key] for key in space}
    text = (
        f"{config.sweep.search} search over {', '.join(space)}: {len(ended)} settings ({int(frame['stopped'].sum())} "
        f"stopped early, {int(frame['error'].notna().sum())} failed) at {trial.shots} shots of split seed "
        f"{trial.split_seed}; {setting_text(settings)} won with validation SRCC {best.val_srcc:.3f}"
    )
    say(f"sweep: {text}")
    return Searched(frame, settings, text)


def setting_text(settings: Settings) -> str:
    """For people: `adapt.lr 0.0316, adapt.epochs 20`."""
    texts = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in settings.items()}
    return ", ".join(f"{key} {text}" for key, text in texts.items())

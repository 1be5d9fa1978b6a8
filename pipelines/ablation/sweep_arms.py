"""The adaptations of an ablation: one sweep for all arms with equal prompts and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.storage import Location
from pipelines.ablation.arms import SweepArms
from pipelines.ablation.predictions import PREDICTIONS
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import load_target
from pipelines.results.statistics import best_by_validation
from pipelines.results.sweep_folder import SweepFolder
from pipelines.runtime.console import say
from pipelines.scoring.stacked_models import stacked_model
from pipelines.sweeping.sweep_run import run_sweep


def sweep_predictions(
    arms: SweepArms, ablation: Location, later: Sequence[SweepArms] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Run the sweep in a folder of its own; -> the test predictions of its arms (`PREDICTIONS`), and failed trials.

    later: the sweeps that follow, whose starts are encoded in the same pass over the images.
    """
    say(f"ablation: {', '.join(arms.methods)}")
    output = ablation / arms.folder
    write_bundle(output / "pretrain" / "bundle", arms.start)
    also = [(sweep.config, sweep.start) for sweep in later]
    results = run_sweep(dataclasses.replace(arms.config, output=output.uri), also).results
    good = results[results["error"].isna()]
    folder = SweepFolder.of(output.uri)
    frames = [PREDICTIONS.frame([])]
    for method, regularized in arms.methods.items():
        rows = best_by_validation(good[good["lambda"] > 0]) if regularized else good[good["lambda"] == 0]
        predicted = _joined(arms.config, folder, rows) if method in arms.ensembles else _alone(folder, rows)
        frames.append(predicted.assign(method=method)[list(PREDICTIONS.columns)])
    failed = [f"{arms.folder}: {row.trial}: {row.error}" for row in results[results["error"].notna()].itertuples()]
    return pd.concat(frames, ignore_index=True), failed


def _alone(folder: SweepFolder, rows: pd.DataFrame) -> pd.DataFrame:
    """`PREDICTIONS` of trials, without the method."""
    frames = [PREDICTIONS.frame([])]
    for row in rows.itertuples():
        test = folder.trial(row.trial).read_predictions()
        if test is None:
            raise FileNotFoundError(f"{folder.trial(row.trial).predictions.uri} is missing; delete its trial.json")
        about = {"shots": row.budget, "split_seed": row.split_seed, "lambda": rows.at[row.Index, "lambda"]}
        frames.append(test.assign(**about, predicted=test["mos_scale_score"]))
    return pd.concat(frames, ignore_index=True)


def _joined(config: Config, folder: SweepFolder, rows: pd.DataFrame) -> pd.DataFrame:
    """The same of the ensembles of all label draws of a fold; each draw gets those of its fold."""
    target = load_target(config.target)
    frames = [PREDICTIONS.frame([])]
    for (budget, fold), draws in rows.groupby(["budget", rows["split_seed"] % config.protocol.folds]):
        if len(draws) < 2:  # the others failed, which is told where trials are
            say(f"ablation: no ensemble of fold {fold} at {budget} labels: one of its label draws is left")
            continue
        members = {str(trial): read_bundle(folder.trial(trial).bundle) for trial in draws["trial"]}
        _, weights = stacked_model(config, members, target)
        test = _alone(folder, draws).assign(**{"lambda": float("nan")})
        weight_of_seed = {row.split_seed: weights[row.trial] for row in draws.itertuples()}
        weighted = test["predicted"] * test["split_seed"].map(weight_of_seed)
        frames.append(test.assign(predicted=weighted.groupby(test["image_path"]).transform("sum")))
    return pd.concat(frames, ignore_index=True)

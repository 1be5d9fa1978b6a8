"""The adaptations of an ablation: one sweep for all arms with equal prompts and settings."""

from __future__ import annotations

import dataclasses

import pandas as pd

from grmp_core.model.bundle import write_bundle
from grmp_core.storage import Location
from pipelines.ablation.arms import SweepArms
from pipelines.ablation.predictions import PREDICTIONS
from pipelines.results.sweep_folder import SweepFolder
from pipelines.runtime.console import say
from pipelines.sweeping.sweep_run import run_sweep


def sweep_predictions(arms: SweepArms, ablation: Location) -> tuple[pd.DataFrame, list[str]]:
    """Run the sweep in a folder of its own; -> the test predictions of its arms (`PREDICTIONS`), and failed trials."""
    say(f"ablation: {', '.join(arms.methods)}")
    output = ablation / arms.folder
    write_bundle(output / "pretrain" / "bundle", arms.start)
    results = run_sweep(dataclasses.replace(arms.config, output=output.uri)).results
    good = results[results["error"].isna()]
    folder = SweepFolder.of(output.uri)
    frames = [PREDICTIONS.frame([])]
    for method, regularized in arms.methods.items():
        rows = best_by_validation(good[good["lambda"] > 0]) if regularized else good[good["lambda"] == 0]
        for row in rows.itertuples():
            test = folder.trial(row.trial).read_predictions()
            if test is None:
                raise FileNotFoundError(f"{folder.trial(row.trial).predictions.uri} is missing; delete its trial.json")
            frames.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "shots": row.budget,
                        "split_seed": row.split_seed,
                        "lambda": rows.at[row.Index, "lambda"],
                        "image_path": test["image_path"],
                        "mos": test["mos"],
                        "predicted": test["mos_scale_score"],
                    }
                )
            )
    failed = [f"{arms.folder}: {row.trial}: {row.error}" for row in results[results["error"].notna()].itertuples()]
    return pd.concat(frames, ignore_index=True), failed


def best_by_validation(trials: pd.DataFrame) -> pd.DataFrame:
    """For every split and number of shots, the trial with the best validation SRCC; ties go to the smaller lambda."""
    ordered = trials.sort_values(["val_srcc", "lambda"], ascending=[False, True])
    return ordered.groupby(["shots", "split_seed"]).head(1).sort_values(["shots", "split_seed"], ignore_index=True)

"""Ablation on a labelled target: baselines, prompts, pre-training and regularization side by side.

All methods share the labelled images and the test images. Ridge strength, epoch and lambda are chosen within the
labelled images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from pipelines.ablation.arms import arm_rows, arms
from pipelines.ablation.baselines import baseline_rows
from pipelines.ablation.comparison import AGAINST, medians_text, tests_text
from pipelines.configuration.loading import LAMBDA
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows, load_target
from pipelines.results.statistics import compare_methods, method_medians
from pipelines.runtime.provenance import output_place, write_manifest
from pipelines.runtime.ray_session import ray_session


@dataclass(frozen=True)
class Ablation:
    """Result of `grmp ablate`."""

    results: pd.DataFrame
    """One row a method, number of shots and split: `arms.COLUMNS`."""
    failed: list[str]
    """Failed trials, which have no row in `results`, each with its error."""
    folder: str

    def as_json(self) -> dict[str, Any]:
        medians, tests = method_medians(self.results), compare_methods(self.results, AGAINST)
        records = {"medians": medians.to_dict("records"), "tests": tests.to_dict("records")}
        return {"place": self.folder, **records, "failed": self.failed}

    def as_text(self) -> str:
        failed = [f"failed: {trial}" for trial in self.failed]
        return "\n".join([medians_text(self.results), "", tests_text(self.results), *failed, self.folder])


def run_ablation(config: Config) -> Ablation:
    """Run the baselines and one sweep per arm, and write `<output>/ablation`. Finished trials are kept.

    InputError where `sweep.lambdas` has no value above 0, or where a search would choose lambda.
    """
    started = time.time()
    folder = output_place(config, "ablation")
    if not any(strength > 0 for strength in config.sweep.lambdas):
        raise InputError("an ablation compares lambda 0 with larger ones: give sweep.lambdas a value above 0")
    if LAMBDA in config.sweep.space:
        raise InputError(f"an ablation compares lambda 0 with larger ones: remove {LAMBDA} from sweep.space")
    target, sweeps = load_target(config.target), arms(config)
    with ray_session():
        baselines, rejected = baseline_rows(config, target.table.to_pydict())
        by_arm = [arm_rows(arm, folder) for arm in sweeps]
    results = pd.concat([baselines, *(rows for rows, _ in by_arm)], ignore_index=True)
    ablation = Ablation(results, [trial for _, failed in by_arm for trial in failed], folder.uri)
    (folder / "ablation.csv").write_bytes(results.to_csv(index=False).encode())
    (folder / "ablation.md").write_bytes(ablation.as_text().encode())
    inputs = {"target": target.fingerprint()}
    counts = {"rows": len(results), "failed": len(ablation.failed)}
    write_manifest(
        folder, "ablation", config, started, inputs=inputs, counts=counts, rejected=(*bad_rows(target), *rejected)
    )
    return ablation

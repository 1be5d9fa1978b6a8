"""Ablation on a labelled target: baselines, prompts, adapted blocks, pre-training and regularization side by side.

All arms share the labelled images and the test images. Ridge strength, epoch and lambda are chosen within the labelled
images.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipelines.ablation.arms import chosen_arms, sweeps_of
from pipelines.ablation.baselines import baseline_predictions
from pipelines.ablation.comparison import COMPARISONS, compare, comparison_table, comparisons_text, medians_text
from pipelines.ablation.plan import Plan, plan_ablation
from pipelines.ablation.predictions import PREDICTIONS, WITHIN, results_of
from pipelines.ablation.sweep_arms import sweep_predictions
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows, load_target
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.results.statistics import method_medians
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session


@dataclass(frozen=True)
class Ablation:
    """Result of `grmp ablate`."""

    results: pd.DataFrame
    """One row an arm, number of shots and split: `predictions.COLUMNS`."""
    comparisons: pd.DataFrame
    """One row a hypothesis: `comparison.comparison_table`."""
    failed: list[str]
    """Failed trials, which have no row in `results`, each with its error."""
    folder: str
    left_out: str | None = None
    """Why comparisons could not be made; null where all were."""

    def as_json(self) -> dict[str, Any]:
        tables = {"medians": method_medians(self.results), "comparisons": self.comparisons}
        if WITHIN in self.results:
            tables["medians_within_scenes"] = method_medians(self.results, WITHIN)
        records = {name: json.loads(frame.to_json(orient="records")) for name, frame in tables.items()}
        return {"folder": self.folder, **records, "left_out": self.left_out, "failed": self.failed}

    def as_text(self) -> str:
        failed = [f"failed: {trial}" for trial in self.failed]
        medians = [medians_text(self.results), ""]
        if WITHIN in self.results:
            medians += [medians_text(self.results, WITHIN, "median within scenes [quartiles]"), ""]
        return "\n".join([*medians, comparisons_text(self.comparisons, self.left_out), *failed, self.folder])


def run_ablation(config: Config) -> Ablation | Plan:
    """Run the baselines and one sweep per group of arms, and write `<output>/ablation`. Finished trials are kept.

    With `ablate.plan` nothing is run but a few timed steps. InputError as of `chosen_arms` and `sweeps_of`.
    """
    started = time.time()
    folder = output_folder(config, "ablation")
    arms = chosen_arms(config)
    sweeps = sweeps_of(config, arms)
    target = load_target(config.target)
    if config.ablate.plan:
        return plan_ablation(target, arms, sweeps)
    with ray_session():
        baselines, rejected = baseline_predictions(config, target, arms)
        by_sweep = [sweep_predictions(sweep, folder, sweeps[i + 1 :]) for i, sweep in enumerate(sweeps)]
    predictions = pd.concat([baselines, *(rows for rows, _ in by_sweep)], ignore_index=True)
    groups = dict(zip(target.image_paths, target.reference_ids, strict=True))
    scenes = target_protocol(config, target).scenes
    scene_of = None if scenes is None else dict(zip(target.image_paths, scenes, strict=True))
    results = results_of(predictions, scene_of)
    PREDICTIONS.write(folder / "predictions.parquet", predictions)
    (folder / "ablation.csv").write_bytes(results.to_csv(index=False).encode())
    ablate = config.ablate
    comparisons, left_out = compare(predictions, groups, ablate.method, ablate.rivals, config.protocol.folds, scene_of)
    ablation = Ablation(
        results,
        comparison_table(comparisons, ablate.corrected_with),
        [trial for _, failed in by_sweep for trial in failed],
        folder.uri,
        left_out,
    )
    (folder / COMPARISONS).write_json({"comparisons": ablation.as_json()["comparisons"]})
    (folder / "ablation.md").write_bytes(ablation.as_text().encode())
    inputs = {"target": target.fingerprint()}
    counts = {"rows": len(ablation.results), "failed": len(ablation.failed)}
    write_manifest(
        folder, "ablation", config, started, inputs=inputs, counts=counts, rejected=(*bad_rows(target), *rejected)
    )
    return ablation

"""The grid of a sweep: its trials, its checks, and the choice of lambda by validation scores."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.evaluation import splits
from grmp_core.learning.few_shot import folds_of
from grmp_core.model.bundle import Bundle
from pipelines.configuration.loading import with_settings
from pipelines.configuration.schema import Config
from pipelines.runtime.provenance import config_hash
from pipelines.sweeping.search import Searched, Space
from pipelines.sweeping.search_space import highest
from pipelines.sweeping.trial_pool import Cell

FOLDS = "adapt.folds"


def plan_trials(config: Config, reference_ids: Sequence[str], settings: Mapping[str, Any] | None = None) -> list[Cell]:
    """The grid: dicts with trial, lambda, shots, budget, data_ratio, split_seed, and the settings that a search found.

    `budget` names what belongs together: the shots, or where a ratio asks for them, whose shots differ between splits,
    their median. InputError for shots that do not exist, and for two entries that come to the same trial.
    """
    parts_S = [splits.split(reference_ids, seed, config.sweep.test_fraction) for seed in config.sweep.split_seeds]
    shots_BS = [[shots] * len(parts_S) for shots in config.sweep.shots] or [
        [splits.shots_from_ratio(split, ratio) for split in parts_S] for ratio in config.sweep.ratios or (1.0,)
    ]
    cells = []
    for s, split in enumerate(parts_S):
        for shots_S in shots_BS:
            labelled = splits.draw_shots(split, shots_S[s], split.seed)
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


def check_plan(config: Config, space: Space, reference_ids: Sequence[str]) -> list[Cell]:
    """The trials. InputError for what cannot be, with the most folds that a search may settle on where it has a say."""
    most = {FOLDS: highest(space[FOLDS])} if FOLDS in space else {}
    return plan_trials(with_settings(config, most), reference_ids)


def largest_shots(cells: list[Cell]) -> Cell:
    """The cell with the most shots, of the first split seed that has it."""
    return max(cells, key=lambda cell: cell["shots"])


def sweep_identity(config: Config, start: Bundle, target_fingerprint: str) -> str:
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

"""The grid of a sweep: its trials, its checks, and the choice of lambda by validation scores."""

from __future__ import annotations

from collections import Counter
from statistics import median_high

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol, scenes_digest
from grmp_core.evaluation.splits import shots_from_ratio
from grmp_core.identity import Identity
from grmp_core.imaging.decoding import colour_identity
from grmp_core.learning.few_shot import folds_of
from grmp_core.model.bundle import Bundle
from pipelines.configuration.loading import LAMBDA, with_settings
from pipelines.configuration.schema import Config
from pipelines.results.trial import Choice, Settings, Trial
from pipelines.sweeping.search_space import Space, highest

FOLDS = "adapt.folds"


def plan_trials(config: Config, protocol: Protocol, settings: Settings | None = None) -> list[Trial]:
    """The trials of the grid, each with the settings that a search has settled.

    InputError for shots that do not exist, and for two entries that come to the same trial.
    """
    parts_S = [protocol.parts(seed) for seed in config.sweep.split_seeds]
    shots_BS = [[shots] * len(parts_S) for shots in config.sweep.shots] or [
        [shots_from_ratio(split, ratio) for split in parts_S] for ratio in config.sweep.ratios or (1.0,)
    ]
    trials = []
    for s, split in enumerate(parts_S):
        for shots_S in shots_BS:
            labelled = protocol.labelled(split, shots_S[s])
            folds_of(config.adapt, [protocol.splits.reference_ids[row] for row in labelled], split.seed)
            trials += [
                Trial(
                    strength=strength,
                    shots=shots_S[s],
                    budget=median_high(shots_S),
                    data_ratio=shots_S[s] / len(split.train),
                    split_seed=split.seed,
                    settings=settings or {},
                )
                for strength in config.sweep.lambdas
            ]
    _check_unique([trial.name for trial in trials])
    return trials


def _check_unique(names: list[str]) -> None:
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated:
        raise InputError(
            f"the sweep has two trials {repeated}; remove the repeated value from sweep.lambdas, sweep.shots or "
            "sweep.split_seeds, or from sweep.ratios one that comes to the same number of images as another"
        )


def choose(results: pd.DataFrame, settings: Settings | None = None) -> Choice | None:
    """The model to register, by validation only: at the largest budget, the lambda with the best median validation
    SRCC, and of its splits the one with the best validation SRCC. None when no trial has a validation SRCC.

    Args:
        settings: those that a search has settled.
    """
    good = results[results["error"].isna() & results["val_srcc"].notna()]
    if good.empty:
        return None
    largest = good[good["budget"] == good["budget"].max()]
    medians = largest.groupby("lambda")["val_srcc"].median()
    strength = float(medians.idxmax())
    best = largest[largest["lambda"] == strength].sort_values("val_srcc", ascending=False).iloc[0]
    reason = f"best median validation SRCC {medians.max():.3f} at {int(best['budget'])} shots; test scores took no part"
    return Choice(
        strength=strength,
        settings=settings,
        shots=int(best["shots"]),
        trial=best["trial"],
        bundle=best["bundle"],
        reason=reason,
    )


def check_plan(config: Config, space: Space, protocol: Protocol) -> list[Trial]:
    """The trials. InputError as of `plan_trials`, for the most folds that a search may settle on, too."""
    if FOLDS in space:
        config = with_settings(config, {FOLDS: highest(space[FOLDS])})
    return plan_trials(config, protocol)


def largest_shots(trials: list[Trial]) -> Trial:
    """The trial with the most shots, of the first split seed that has it."""
    return max(trials, key=lambda trial: trial.shots)


def sweep_identity(config: Config, start: Bundle, target_fingerprint: str, protocol: Protocol) -> Identity:
    """Every setting and input that decides about the numbers of a trial with given lambda, shots and split.

    adapt.qgr.strength is none of them, since a trial has its own lambda. Nor are sweep.cpus_per_trial and `compile`:
    with another number of threads, or compiled, sums differ in their last bits only.
    """
    parts: dict[str, object] = {
        "seed": config.seed,
        "precision": config.precision,
        "views": config.views,
        "adapt": config.adapt,
        "images": config.images,
        "protocol": config.protocol,
        "sweep.test_fraction": config.sweep.test_fraction,
        "backbone": config.backbone,
        "prompts.digest": start.digest,
        "target.fingerprint": target_fingerprint,
        **colour_identity(config.images),
    }
    if protocol.splits.digest is not None:
        parts["sweep.splits"] = protocol.splits.digest
    if protocol.scenes is not None:
        parts["protocol.scenes.digest"] = scenes_digest(protocol.scenes)
    where_files_lie = {"backbone.checkpoint", "protocol.scenes"}
    return Identity.of(parts, without={LAMBDA, "images.colour_profiles", *where_files_lie})  # colour_identity has that

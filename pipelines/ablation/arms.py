"""Arms of an ablation. Each is one sweep with prompts or adapted parts of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.quality_model import QualityModel, TrainableConfig
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.starting_model import read_prompts
from pipelines.runtime.console import say
from pipelines.runtime.provenance import output_place
from pipelines.sweeping.sweep_run import run_sweep

COLUMNS = ("shots", "split_seed", "method", "srcc", "lambda")
"""Of the ablation's results, one row a method, number of shots and split; lambda is NaN for a baseline."""
NSS, LINEAR, LOOK = "ridge on BRISQUE", "linear probe", "ridge on attributes"
CONTEXT, RANDOM, RANDOM_QGR = "text context only (CoOp)", "adaptation", "adaptation + QGR"
CONTEXT_ONLY = TrainableConfig(
    text_context=True, visual_prompts=False, vision_blocks=0, text_blocks=0, final_norms=False
)


@dataclass(frozen=True)
class Arm:
    """One sweep of the ablation, with its start prompts and its configuration."""

    folder: str
    config: Config
    start: Bundle
    methods: Mapping[str, bool]
    """Method name -> true with QGR (best lambda > 0 by validation), false without (lambda 0)."""


def arms(config: Config) -> list[Arm]:
    """Text context only, random prompts, and one arm per pre-trained prompt bundle of `ablate.pretrained`.

    InputError where a bundle is missing or does not fit the backbone.
    """
    lambdas = tuple(sorted({0.0, *config.sweep.lambdas}))
    full = dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, lambdas=lambdas))
    context = dataclasses.replace(
        config,
        prompts=dataclasses.replace(config.prompts, visual_tokens=0),
        adapt=dataclasses.replace(config.adapt, trainable=CONTEXT_ONLY),
        sweep=dataclasses.replace(config.sweep, lambdas=(0.0,)),
    )
    arms = [
        Arm("context", context, random_prompts(context), {CONTEXT: False}),
        Arm("random", full, random_prompts(full), {RANDOM: False, RANDOM_QGR: True}),
    ]
    named = config.ablate.pretrained or {"MPP": (output_place(config, "pretrain") / "bundle").uri}
    for name, uri in named.items():
        methods = {f"{RANDOM} + {name}": False, f"{RANDOM} + {name} + QGR": True}
        arms.append(Arm(f"pretrained-{name.replace(' ', '-')}", full, read_prompts(config, locate(uri)), methods))
    return arms


def random_prompts(config: Config) -> Bundle:
    """A bundle with the prompts that pre-training starts from, seeded by `config.seed`."""
    backbone = load_backbone(config.backbone)
    return Bundle(
        kind="prompts",
        backbone=config.backbone,
        backbone_sha256=backbone.weights_sha256,
        prompts=config.prompts,
        views=config.views,
        precision=config.precision,
        parameters=QualityModel(backbone, config.prompts, seed=config.seed).prompt_parameters(),
        provenance={"tasks": [], "seed": config.seed},
    )


def arm_rows(arm: Arm, ablation: Location) -> tuple[pd.DataFrame, list[str]]:
    """Run the arm's sweep in a folder of its own; -> its rows of the ablation, and the trials that failed."""
    say(f"ablation: {arm.folder}")
    output = ablation / arm.folder
    write_bundle(output / "pretrain" / "bundle", arm.start)
    results = run_sweep(dataclasses.replace(arm.config, output=output.uri)).results
    good = results[results["error"].isna()]
    frames = []
    for method, regularized in arm.methods.items():
        rows = best_by_validation(good[good["lambda"] > 0]) if regularized else good[good["lambda"] == 0]
        rows = rows.assign(shots=rows["budget"], method=method)
        frames.append(rows[list(COLUMNS)])
    failed = [f"{arm.folder}: {row.trial}: {row.error}" for row in results[results["error"].notna()].itertuples()]
    return pd.concat(frames, ignore_index=True), failed


def best_by_validation(trials: pd.DataFrame) -> pd.DataFrame:
    """For every split and number of shots, the trial with the best validation SRCC; ties go to the smaller lambda."""
    ordered = trials.sort_values(["val_srcc", "lambda"], ascending=[False, True])
    return ordered.groupby(["shots", "split_seed"]).head(1).sort_values(["shots", "split_seed"], ignore_index=True)

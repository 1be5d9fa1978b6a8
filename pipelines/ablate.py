"""Which part of the method helps, on a real target: baselines, prompts, pre-training, regularization, side by side.

Every method sees the same labelled images and is tested on the same others. What a method may choose (ridge strength,
epoch, lambda), it chooses inside its labelled images.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray.data import ActorPoolStrategy

from grmp_core.errors import InputError
from grmp_core.evaluation import splits
from grmp_core.evaluation.brisque import brisque_features
from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.ridge import ridge
from grmp_core.imaging.decoding import ImageError, ImageLimits, image_bytes, read_image
from grmp_core.imaging.views import ViewConfig, scoring_views
from grmp_core.labels.own_quality import attributes
from grmp_core.model.backbone import BackboneConfig, load_backbone
from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.features import image_features
from grmp_core.model.quality_model import QualityModel, TrainableConfig
from grmp_core.storage import Location, locate
from pipelines import sweep
from pipelines.configuration.loading import LAMBDA
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows, check_rejects, load_target
from pipelines.few_shot.starting_model import read_prompts
from pipelines.results.statistics import compare_methods, method_medians
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import output_place, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.sweeping import grid

NSS, LINEAR, LOOK = "ridge on BRISQUE", "linear probe", "ridge on attributes"
CONTEXT, RANDOM, RANDOM_QGR = "text context only (CoOp)", "adaptation", "adaptation + QGR"
AGAINST = (NSS, LINEAR, LOOK, RANDOM)
"""What every other method is held against."""
CONTEXT_ONLY = TrainableConfig(
    text_context=True, visual_prompts=False, vision_blocks=0, text_blocks=0, final_norms=False
)


@dataclass(frozen=True)
class Ablation:
    """Result of `grmp evaluate --set evaluate.ablation=true`."""

    results: pd.DataFrame
    """One row a method, number of shots and split: method, shots, split_seed, srcc, lambda."""
    failed: list[str]
    """Trials without a row, each with its error."""
    place: str

    def as_json(self) -> dict[str, Any]:
        medians, tests = method_medians(self.results), compare_methods(self.results, AGAINST)
        records = {"medians": medians.to_dict("records"), "tests": tests.to_dict("records")}
        return {"place": self.place, **records, "failed": self.failed}

    def as_text(self) -> str:
        failed = [f"failed: {trial}" for trial in self.failed]
        return "\n".join([medians_text(self.results), "", tests_text(self.results), *failed, self.place])


@dataclass(frozen=True)
class Arm:
    """One sweep of the ablation: where its prompts start, and what is different in its configuration."""

    folder: str
    config: Config
    start: Bundle
    methods: Mapping[str, bool]
    """Name of a method -> with QGR (best lambda > 0 by validation) or without (lambda 0)."""


def run(config: Config) -> Ablation:
    """Write `<output>/ablation`: a sweep for every arm, the baselines, and the table. Finished trials are kept."""
    started = time.time()
    place = output_place(config, "ablation")
    if not any(strength > 0 for strength in config.sweep.lambdas):
        raise InputError("an ablation compares lambda 0 with others: give sweep.lambdas a value above 0")
    if LAMBDA in config.sweep.space:
        raise InputError(f"an ablation compares lambda 0 with others: take {LAMBDA} out of sweep.space")
    target, arms = load_target(config.target), _arms(config)
    with ray_session():
        baselines, rejected = _baseline_rows(config, target.table.to_pydict())
        found = [_arm_rows(arm, place) for arm in arms]
    results = pd.concat([baselines, *(rows for rows, _ in found)], ignore_index=True)
    ablation = Ablation(results, [trial for _, failed in found for trial in failed], place.uri)
    (place / "ablation.csv").write_bytes(results.to_csv(index=False).encode())
    (place / "ablation.md").write_bytes(ablation.as_text().encode())
    inputs = {"target": target.fingerprint()}
    counts = {"rows": len(results), "failed": len(ablation.failed)}
    write_manifest(
        place, "ablation", config, started, inputs=inputs, counts=counts, rejected=(*bad_rows(target), *rejected)
    )
    return ablation


def medians_text(results: pd.DataFrame) -> str:
    """Method by shots: median test SRCC over the splits, with quartiles."""
    medians = method_medians(results)
    rows = []
    for method, group in medians.groupby("method", sort=False):
        cells = {f"{row.shots} shots": f"{row.median:.3f} [{row.q1:.3f}, {row.q3:.3f}]" for row in group.itertuples()}
        rows.append({"median test SRCC [quartiles]": method, **cells})
    return table(rows)


def tests_text(results: pd.DataFrame) -> str:
    """The paired tests over splits, all shots together and each by itself."""
    rows = [
        {"method": r.method, "against": r.against, "shots": r.shots, "median difference": r.difference, "p": r.p}
        for r in compare_methods(results, AGAINST).itertuples()
    ]
    return table(rows)


def _arms(config: Config) -> list[Arm]:
    lambdas = tuple(sorted({0.0, *config.sweep.lambdas}))
    full = dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, lambdas=lambdas))
    context = dataclasses.replace(
        config,
        prompts=dataclasses.replace(config.prompts, visual_tokens=0),
        adapt=dataclasses.replace(config.adapt, trainable=CONTEXT_ONLY),
        sweep=dataclasses.replace(config.sweep, lambdas=(0.0,)),
    )
    arms = [
        Arm("context", context, _random_prompts(context), {CONTEXT: False}),
        Arm("random", full, _random_prompts(full), {RANDOM: False, RANDOM_QGR: True}),
    ]
    named = config.evaluate.pretrained or {"MPP": (output_place(config, "pretrain") / "bundle").uri}
    for name, uri in named.items():
        methods = {f"{RANDOM} + {name}": False, f"{RANDOM} + {name} + QGR": True}
        arms.append(Arm(f"pretrained-{name.replace(' ', '-')}", full, read_prompts(config, locate(uri)), methods))
    return arms


def _random_prompts(config: Config) -> Bundle:
    """Prompts as pre-training would start from."""
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


def _arm_rows(arm: Arm, place: Location) -> tuple[pd.DataFrame, list[str]]:
    """Run the arm's sweep in a folder of its own; -> its rows of the ablation, and the trials that failed."""
    say(f"ablation: {arm.folder}")
    folder = place / arm.folder
    write_bundle(folder / "pretrain" / "bundle", arm.start)
    results = sweep.run(dataclasses.replace(arm.config, output=folder.uri)).results
    good = results[results["error"].isna()]
    frames = []
    for method, regularized in arm.methods.items():
        rows = best_by_validation(good[good["lambda"] > 0]) if regularized else good[good["lambda"] == 0]
        rows = rows.assign(shots=rows["budget"], method=method)
        frames.append(rows[["shots", "split_seed", "srcc", "lambda", "method"]])
    failed = [f"{arm.folder}: {row.trial}: {row.error}" for row in results[results["error"].notna()].itertuples()]
    return pd.concat(frames, ignore_index=True), failed


def best_by_validation(trials: pd.DataFrame) -> pd.DataFrame:
    """Of every split and number of shots the trial with the best validation SRCC; the smaller lambda of equals."""
    ordered = trials.sort_values(["val_srcc", "lambda"], ascending=[False, True])
    return ordered.groupby(["shots", "split_seed"]).head(1).sort_values(["shots", "split_seed"], ignore_index=True)


def _baseline_rows(config: Config, columns: dict[str, list[Any]]) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Ridge regression on BRISQUE's statistics, on the frozen backbone's features, and on three attributes of the
    pixels (detail, brightness, colour), on the sweep's own images.

    -> one row a baseline, number of shots and split, and the images that cannot be read, which no sweep reads either.
    """
    features = _features(config, columns["image_path"])
    paths = list(zip(columns["image_path"], features, strict=True))
    for path, row in paths:
        if row["unfit"]:  # the sweeps use it, so the baselines cannot do without it
            raise InputError(f"{path}: {row['unfit']}")
    rejected = [{"path": path, "reason": row["error"]} for path, row in paths if row["error"]]
    check_rejects(config.target, len(features), rejected)
    good = [i for i, row in enumerate(features) if not row["error"]]
    mos = np.array([columns["mos"][i] for i in good])
    reference_ids = tuple(columns["reference_id"][i] for i in good)
    rows = []
    for cell in grid.plan_trials(config, reference_ids):
        if cell["lambda"] != config.sweep.lambdas[0]:
            continue
        parts = splits.split(reference_ids, cell["split_seed"], config.sweep.test_fraction)
        labelled = splits.draw_shots(parts, cell["shots"], cell["split_seed"])
        for method, name in ((NSS, "brisque"), (LINEAR, "pooled"), (LOOK, "attributes")):
            values = np.stack([features[i][name] for i in good])
            predicted = ridge(values[labelled], mos[labelled], values[parts.test])
            found = {"method": method, "srcc": srcc(predicted, mos[parts.test]), "lambda": np.nan}
            rows.append({"shots": cell["budget"], "split_seed": cell["split_seed"], **found})
    return pd.DataFrame(rows), rejected


def _features(config: Config, paths: list[str]) -> list[dict[str, Any]]:
    """Statistics and features of every image, in order; `error` where it cannot be read, `unfit` where BRISQUE has
    nothing to say to it."""
    rows = [{"row": i, "path": path} for i, path in enumerate(paths)]
    pool = int(ray.cluster_resources()["CPU"])
    found = (
        ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * pool))
        .map(
            _Features,  # type: ignore[arg-type]  # Ray makes an instance, whose call it is
            fn_constructor_args=(config.backbone, config.views, config.images, config.precision),
            compute=ActorPoolStrategy(size=pool),
        )
        .iter_rows()
    )
    return sorted(found, key=lambda row: int(row["row"]))


class _Features:
    """A Ray Data worker: BRISQUE's statistics of a picture; of its views the mean of the image tower's features and of
    their attributes."""

    def __init__(self, backbone: BackboneConfig, views: ViewConfig, limits: ImageLimits, precision: str) -> None:
        torch.set_num_threads(1)
        self.backbone, self.views, self.limits = load_backbone(backbone), views, limits
        if precision == "bf16":
            self.backbone.clip.bfloat16()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            image = read_image(image_bytes(row["path"]), self.limits)
        except ImageError as error:
            return _nothing(row, error=error.reason)
        try:
            statistics = brisque_features(image)
        except InputError as error:
            return _nothing(row, unfit=str(error))
        views = scoring_views(image, self.views, self.backbone.image_size_px)
        pooled = image_features(self.backbone, [views]).pooled_ND.mean(axis=0)
        look = np.mean([attributes(view) for view in views], axis=0)
        return {**_nothing(row), "brisque": statistics, "pooled": pooled, "attributes": look}


def _nothing(row: dict[str, Any], error: str = "", unfit: str = "") -> dict[str, Any]:
    empty = dict.fromkeys(("brisque", "pooled", "attributes"))
    return {"row": row["row"], "error": error, "unfit": unfit, **empty}

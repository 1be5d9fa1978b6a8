"""Baselines without adaptation: the score without a label, and ridge regression on fixed features of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray.data import ActorPoolStrategy

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation.brisque import brisque_features
from grmp_core.evaluation.ridge import residual_ridge, ridge
from grmp_core.imaging.decoding import ImageLimits, image_bytes, read_image
from grmp_core.imaging.views import ViewConfig, scoring_views, whole_grid
from grmp_core.model.backbone import load_backbone
from grmp_core.model.features import image_features
from grmp_core.model.zero_shot import zero_shot_quality
from pipelines.ablation.predictions import PREDICTIONS
from pipelines.configuration.schema import Config
from pipelines.configuration.workloads import ArmConfig
from pipelines.few_shot.labelled_target import bad_rows, check_rejects
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.sweeping.grid import plan_trials

_MEASURES = ("brisque", "pooled", "no_label")


def baseline_predictions(
    config: Config, target: LabelledSet, arms: Mapping[str, ArmConfig]
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Test predictions (`PREDICTIONS`) of the baselines among `arms`, with the splits and labels of the sweeps.

    Returns:
        The predictions; and the unreadable images with reasons, which the sweeps skip as well.

    Raises:
        InputError: too many images cannot be read, or BRISQUE is undefined on one of them.
    """
    baselines = {name: arm.baseline for name, arm in arms.items() if arm.baseline is not None}
    if not baselines:
        return PREDICTIONS.frame([]), []
    with_brisque = "brisque" in baselines.values()
    measured = _measure(config, target.image_paths, with_brisque)
    rejected = [{"path": row["path"], "reason": row["error"]} for row in measured if row["error"]]
    check_rejects(config.target, len(measured), rejected, bad_rows(target))
    for row in measured:
        if row["unfit"]:  # the sweep uses it, so the baselines must not skip it
            raise InputError(f"{row['path']}: {row['unfit']}; leave BRISQUE ridge out of ablate.arms")
    good = [row["row"] for row in measured if not row["error"]]
    known = [name for name in _MEASURES if with_brisque or name != "brisque"]
    values = {name: np.stack([measured[i][name] for i in good]) for name in known}
    images = _Images(np.array([target.image_paths[i] for i in good]), target.mos[good], values)
    images.values["no_label"] = np.asarray(target.score_range.to_mos(images.values["no_label"]))
    protocol = target_protocol(config, target).take(good)
    frames = []
    drawn = {(trial.shots, trial.budget, trial.split_seed): trial for trial in plan_trials(config, protocol)}
    for shots, budget, seed in drawn:
        parts = protocol.parts(seed)
        labelled = protocol.labelled(parts, shots)
        for method, baseline in baselines.items():
            frame = pd.DataFrame({"image_path": images.paths[parts.test], "mos": images.mos[parts.test]})
            predicted = images.predict(baseline, labelled, parts.test)
            frames.append(
                frame.assign(
                    method=method, shots=budget, split_seed=seed, predicted=predicted, **{"lambda": float("nan")}
                )
            )
    return pd.concat(frames, ignore_index=True), rejected


@dataclass(frozen=True)
class _Images:
    """Readable images with what the baselines know of them; row i of all arrays is one image."""

    paths: np.ndarray
    mos: np.ndarray
    values: dict[str, np.ndarray]

    def predict(self, baseline: str, labelled: np.ndarray, test: np.ndarray) -> np.ndarray:
        """-> predictions for the images `test`, on the scale of `mos`."""
        base, pooled = self.values["no_label"], self.values["pooled"]
        if baseline == "no label":
            return base[test]
        if baseline == "residual":
            return residual_ridge(pooled[labelled], base[labelled], self.mos[labelled], pooled[test], base[test])
        features = self.values["brisque"] if baseline == "brisque" else pooled
        return ridge(features[labelled], self.mos[labelled], features[test])


def _measure(config: Config, paths: list[str], with_brisque: bool) -> list[dict[str, Any]]:
    """Statistics and features of every image, in order; `error` where it cannot be read, `unfit` where BRISQUE is
    undefined on it."""
    rows = [{"row": i, "path": path} for i, path in enumerate(paths)]
    pool = int(ray.cluster_resources()["CPU"])
    described = (
        ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * pool))
        .map(
            _Measure,  # type: ignore[arg-type]  # Ray makes an instance, whose call it is
            fn_constructor_args=(config, with_brisque),
            compute=ActorPoolStrategy(size=pool),
        )
        .iter_rows()
    )
    return sorted(described, key=lambda row: int(row["row"]))


class _Measure:
    """A Ray Data worker; -> BRISQUE statistics of an image, and its image-tower features and score without a label,
    averaged over its views."""

    def __init__(self, config: Config, with_brisque: bool) -> None:
        torch.set_num_threads(1)
        self.views: ViewConfig = config.views
        self.limits: ImageLimits = config.images
        self.phrases = config.prompts.phrases
        self.with_brisque = with_brisque
        self.backbone = load_backbone(config.backbone)
        if config.precision == "bf16":
            self.backbone.clip.bfloat16()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        empty = {"row": row["row"], "path": row["path"], "error": "", "unfit": "", **dict.fromkeys(_MEASURES)}
        try:
            image = read_image(image_bytes(row["path"]), self.limits)
            views = whole_grid(scoring_views(image, self.views, self.backbone.image_size_px), self.views)
        except ImageError as error:
            return {**empty, "error": error.reason}
        try:
            statistics = brisque_features(image) if self.with_brisque else None
        except InputError as error:
            return {**empty, "unfit": str(error)}
        features = image_features(self.backbone, [views])
        no_label = float(zero_shot_quality(self.backbone, features.unit_NE, self.phrases).mean())
        return {**empty, "brisque": statistics, "pooled": features.pooled_ND.mean(axis=0), "no_label": no_label}

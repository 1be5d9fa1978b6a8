"""Baselines without adaptation: scores without a label, and regression on fixed features of the images."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
from ray.data import ActorPoolStrategy

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation.brisque import brisque_features
from grmp_core.evaluation.kernel_regression import kernel_regression
from grmp_core.evaluation.ridge import residual_ridge, ridge, scene_ridge
from grmp_core.imaging.decoding import ImageLimits, image_bytes, read_image
from grmp_core.imaging.views import ViewConfig, scoring_views, whole_grid
from grmp_core.model.backbone import load_backbone
from grmp_core.model.features import image_features
from grmp_core.model.joint_prompts import JointPrompts
from grmp_core.model.zero_shot import zero_shot_quality
from pipelines.ablation.predictions import PREDICTIONS
from pipelines.ablation.pyiqa_metrics import PREFIX, PyiqaMetric
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import ArmConfig
from pipelines.few_shot.labelled_target import bad_rows, check_rejects
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.runtime.computing import prepare_to_compute
from pipelines.sweeping.grid import plan_trials

_BRISQUE, _LIQE = "brisque", "liqe prompts"
_MEASURES = ("pooled", "no_label", _BRISQUE, _LIQE)
_ASKED_FOR = {_BRISQUE, _LIQE}
"""Measures that are taken only where a baseline of this name is among the arms."""
_QUALITIES = ("no_label", _LIQE)
"""Measures in [0, 1]."""


def baseline_predictions(
    config: Config, target: LabelledSet, arms: Mapping[str, ArmConfig]
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Test predictions (`PREDICTIONS`) of the baselines among `arms`, with the splits and labels of the sweeps.

    Returns:
        The predictions; and the unreadable images with reasons, which the sweeps skip as well.

    Raises:
        InputError: too many images cannot be read, or BRISQUE or a metric of pyiqa is undefined on one of them.
    """
    baselines = {name: arm.baseline or f"{PREFIX}{arm.metric}" for name, arm in arms.items() if not arm.adapts}
    if not baselines:
        return PREDICTIONS.frame([]), []
    extra = {name for name in baselines.values() if name in _ASKED_FOR or name.startswith(PREFIX)}
    measured = _measure(config, target.image_paths, extra)
    rejected = [{"path": row["path"], "reason": row["error"]} for row in measured if row["error"]]
    check_rejects(config.target, len(measured), rejected, bad_rows(target))
    for row in measured:
        if row["unfit"]:  # the sweep uses it, so the baselines must not skip it
            raise InputError(f"{row['path']}: {row['unfit']}; leave that arm out of ablate.arms")
    good = [row["row"] for row in measured if not row["error"]]
    known = [*(name for name in _MEASURES if name not in _ASKED_FOR), *sorted(extra)]
    values = {name: np.stack([measured[i][name] for i in good]) for name in known}
    values |= {name: np.asarray(target.score_range.to_mos(values[name])) for name in _QUALITIES if name in values}
    sign = 1 if target.score_range.higher_is_better else -1
    values |= {name: sign * values[name] for name in extra if name.startswith(PREFIX)}
    weights = None if target.weights is None else target.weights[good]
    protocol = target_protocol(config, target).take(good)
    paths = np.array([target.image_paths[i] for i in good])
    scenes = None if protocol.scenes is None else np.array(protocol.scenes)
    images = _Images(paths, target.mos[good], values, weights, scenes)
    frames = []
    trials = plan_trials(config, protocol)  # one a lambda; the labels are the same for all of them
    for shots, budget, seed in dict.fromkeys((t.shots, t.budget, t.split_seed) for t in trials):
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
    weights: np.ndarray | None
    """Of the labels in training; null where all count alike."""
    scenes: np.ndarray | None
    """Null where the protocol has none."""

    def predict(self, baseline: str, labelled: np.ndarray, test: np.ndarray) -> np.ndarray:
        """-> predictions for the images `test`, on the scale of `mos`."""
        base, pooled = self.values["no_label"], self.values["pooled"]
        if baseline == "no label":
            return base[test]
        if baseline == _LIQE or baseline.startswith(PREFIX):
            return self.values[baseline][test]
        weights = None if self.weights is None else self.weights[labelled]
        if baseline == "residual":
            known = (pooled[labelled], base[labelled], self.mos[labelled])
            return residual_ridge(*known, pooled[test], base[test], weights)
        if baseline == "scenes" and self.scenes is not None:
            known = (pooled[labelled], base[labelled], self.mos[labelled])
            return scene_ridge(*known, self.scenes[labelled], pooled[test], base[test], weights)
        if baseline == "kernel":
            return kernel_regression(pooled[labelled], self.mos[labelled], pooled[test])
        features = self.values[_BRISQUE] if baseline == _BRISQUE else pooled
        return ridge(features[labelled], self.mos[labelled], features[test], weights)


def _measure(config: Config, paths: list[str], extra: Set[str]) -> list[dict[str, Any]]:
    """Statistics and features of every image, in order; `error` where it cannot be read, `unfit` where BRISQUE or a
    metric of pyiqa is undefined on it."""
    rows = [{"row": i, "path": path} for i, path in enumerate(paths)]
    pool = int(ray.cluster_resources()["CPU"])
    described = (
        ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * pool))
        .map(
            _Measure,  # type: ignore[arg-type]  # Ray makes an instance, whose call it is
            fn_constructor_args=(config, extra),
            compute=ActorPoolStrategy(size=pool),
        )
        .iter_rows()
    )
    return sorted(described, key=lambda row: int(row["row"]))


class _Measure:
    """A Ray Data worker; -> image-tower features of an image and its score without a label, averaged over its views;
    and of `extra` BRISQUE's statistics, the score by joint prompts, and metrics of pyiqa."""

    def __init__(self, config: Config, extra: Set[str]) -> None:
        prepare_to_compute()
        self.views: ViewConfig = config.views
        self.limits: ImageLimits = config.images
        self.phrases = config.prompts.phrases
        self.with_brisque = _BRISQUE in extra
        self.backbone = load_backbone(config.backbone)
        if config.precision == "bf16":
            self.backbone.clip.bfloat16()
        self.joint_prompts = JointPrompts.of(self.backbone) if _LIQE in extra else None
        self.metrics = {name: PyiqaMetric(name.removeprefix(PREFIX)) for name in extra if name.startswith(PREFIX)}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        empty = {
            "row": row["row"],
            "path": row["path"],
            "error": "",
            "unfit": "",
            **dict.fromkeys([*_MEASURES, *self.metrics]),
        }
        try:
            image = read_image(image_bytes(row["path"]), self.limits)
            views = whole_grid(scoring_views(image, self.views, self.backbone.image_size_px), self.views)
        except ImageError as error:
            return {**empty, "error": error.reason}
        try:
            statistics = brisque_features(image) if self.with_brisque else None
            scores = {name: metric(image) for name, metric in self.metrics.items()}
        except InputError as error:
            return {**empty, "unfit": str(error)}
        features = image_features(self.backbone, [views])
        return {
            **empty,
            "pooled": features.pooled_ND.mean(axis=0),
            "no_label": float(zero_shot_quality(self.backbone, features.unit_NE, self.phrases).mean()),
            _BRISQUE: statistics,
            _LIQE: self.joint_prompts.quality(features.unit_NE) if self.joint_prompts else None,
            **scores,
        }

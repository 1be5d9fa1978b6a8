"""Baselines without adaptation: ridge regression on fixed features of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray.data import ActorPoolStrategy

from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation import splits
from grmp_core.evaluation.brisque import brisque_features
from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.ridge import ridge
from grmp_core.imaging.decoding import ImageLimits, image_bytes, read_image
from grmp_core.imaging.views import ViewConfig, scoring_views
from grmp_core.labels.own_quality import attributes
from grmp_core.model.backbone import BackboneConfig, load_backbone
from grmp_core.model.features import image_features
from pipelines.ablation.arms import COLUMNS, LINEAR, LOOK, NSS
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import check_rejects
from pipelines.sweeping.grid import plan_trials


def baseline_rows(config: Config, columns: dict[str, list[Any]]) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Ridge regression on the statistics of BRISQUE, on the features of the frozen backbone, and on three attributes of
    the pixels (detail, brightness, colour), with the splits of the sweep.

    Args:
        columns: the target table by column; image_path, mos and reference_id are read.

    Returns:
        One row per baseline, number of shots and split; and the unreadable images with reasons, which the sweep skips
        as well.

    Raises:
        InputError: too many images cannot be read, or BRISQUE is undefined on one of them.
    """
    features = _features(config, columns["image_path"])
    paths = list(zip(columns["image_path"], features, strict=True))
    for path, row in paths:
        if row["unfit"]:  # the sweep uses it, so the baselines must not skip it
            raise InputError(f"{path}: {row['unfit']}")
    rejected = [{"path": path, "reason": row["error"]} for path, row in paths if row["error"]]
    check_rejects(config.target, len(features), rejected)
    good = [i for i, row in enumerate(features) if not row["error"]]
    mos = np.array([columns["mos"][i] for i in good])
    reference_ids = tuple(columns["reference_id"][i] for i in good)
    rows = []
    for trial in plan_trials(config, reference_ids):
        if trial.strength != config.sweep.lambdas[0]:
            continue
        parts = splits.split(reference_ids, trial.split_seed, config.sweep.test_fraction)
        labelled = splits.draw_shots(parts, trial.shots, trial.split_seed)
        for method, name in ((NSS, "brisque"), (LINEAR, "pooled"), (LOOK, "attributes")):
            values = np.stack([features[i][name] for i in good])
            predicted = ridge(values[labelled], mos[labelled], values[parts.test])
            score = srcc(predicted, mos[parts.test])
            rows.append((trial.budget, trial.split_seed, method, score, np.nan))
    return pd.DataFrame(rows, columns=list(COLUMNS)), rejected


def _features(config: Config, paths: list[str]) -> list[dict[str, Any]]:
    """Statistics and features of every image, in order; `error` where it cannot be read, `unfit` where BRISQUE is
    undefined on it."""
    rows = [{"row": i, "path": path} for i, path in enumerate(paths)]
    pool = int(ray.cluster_resources()["CPU"])
    described = (
        ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * pool))
        .map(
            _Features,  # type: ignore[arg-type]  # Ray makes an instance, whose call it is
            fn_constructor_args=(config.backbone, config.views, config.images, config.precision),
            compute=ActorPoolStrategy(size=pool),
        )
        .iter_rows()
    )
    return sorted(described, key=lambda row: int(row["row"]))


class _Features:
    """A Ray Data worker; -> BRISQUE statistics of an image, and image-tower features and attributes averaged over its
    views."""

    def __init__(self, backbone: BackboneConfig, views: ViewConfig, limits: ImageLimits, precision: str) -> None:
        torch.set_num_threads(1)
        self.backbone, self.views, self.limits = load_backbone(backbone), views, limits
        if precision == "bf16":
            self.backbone.clip.bfloat16()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            image = read_image(image_bytes(row["path"]), self.limits)
            views = scoring_views(image, self.views, self.backbone.image_size_px)
        except ImageError as error:
            return _nothing(row, error=error.reason)
        try:
            statistics = brisque_features(image)
        except InputError as error:
            return _nothing(row, unfit=str(error))
        pooled = image_features(self.backbone, [views]).pooled_ND.mean(axis=0)
        look = np.mean([attributes(view) for view in views], axis=0)
        return {**_nothing(row), "brisque": statistics, "pooled": pooled, "attributes": look}


def _nothing(row: dict[str, Any], error: str = "", unfit: str = "") -> dict[str, Any]:
    empty = dict.fromkeys(("brisque", "pooled", "attributes"))
    return {"row": row["row"], "error": error, "unfit": unfit, **empty}

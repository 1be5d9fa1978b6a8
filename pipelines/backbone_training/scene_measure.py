"""The nine-scene measure: how well frozen features, and the words themselves, tell which scene a photo shows.

Half of the labelled photos fit a map, the other half tests it. Which features a map reads is chosen by cross-validation
inside the first half; all others are reported beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from grmp_core.errors import ImageError, InputError
from grmp_core.evaluation.scene_map import (
    SceneAccuracy,
    SceneMap,
    ScenePhoto,
    class_features,
    halves,
    read_scene_table,
    scene_accuracy,
    scene_numbers,
)
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.views import ViewConfig, scoring_views
from grmp_core.model.backbone import Backbone
from grmp_core.model.features import normalize
from grmp_core.model.scene_words import SCENES
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.model.zero_shot import caption_logits
from grmp_core.nano.captions import scene_captions
from grmp_core.nano.photo_store import PhotoStore
from grmp_core.nano.teacher import Teacher, read_start_weights, teacher_view

CLASSES = "start weights: classes"
LAST_MAP = "start weights: pooled last map"
"""Its validation is the better one of the two (.72 and .68), so it predicts the scenes that are written."""


def measure_scenes(
    backbone: Backbone, table: Path, folder: Path, start_weights: Path | None, described: Sequence[str] = ()
) -> dict[str, object]:
    """Macro accuracies on the test half, by features of `backbone`, by its scene sentences, and by `start_weights`.

    `described`: FOLDER=CSV, folders of `prepare` and where to write their photos' scenes, by a map that is fitted on
    the start weights' features of all labelled photos. InputError for a labelled photo that is not in `folder` or
    cannot be read.
    """
    if described and start_weights is None:
        raise InputError("scenes are written by the start weights' features; give --start-weights too")
    if unnamed := [target for target in described if "=" not in target]:
        raise InputError(f"'{unnamed[0]}' names no CSV to write; give FOLDER=CSV")
    photos = read_scene_table(table)
    features, unit = scene_features(backbone, photos, folder, start_weights)
    numbers = scene_numbers(photos)
    fit, test = halves(numbers)
    maps = {name: SceneMap(values[fit], numbers[fit]) for name, values in features.items()}
    test_photos = [photos[i] for i in test]
    found = {name: scene_accuracy(test_photos, maps[name].predict(features[name][test])) for name in features}
    chosen = max((n for n in maps if n.startswith("tower")), key=lambda n: maps[n].validation_macro_accuracy)
    asked = {view: _ask(backbone, unit_NE) for view, unit_NE in unit.items()}
    if described:
        scene_map = SceneMap(features[LAST_MAP], numbers)
        for target in described:
            source, _, out = target.partition("=")
            write_scenes(scene_map, Path(source), Path(out))
    return {
        "weights_sha256": backbone.weights_sha256,
        "photos": {"fit": len(fit), "test": len(test)},
        "chosen": chosen,
        "macro_accuracy": round(found[chosen].macro, 4),
        "standard_error": round(found[chosen].standard_error, 4),
        "confusion": _rows(found[chosen]),
        "by_features": {
            name: {"validation": round(maps[name].validation_macro_accuracy, 4), **_numbers(found[name])}
            for name in features
        },
        "zero_shot": {view: _numbers(scene_accuracy(test_photos, n[test])) for view, n in asked.items()},
        "zero_shot_all_photos": {view: _numbers(scene_accuracy(photos, n)) for view, n in asked.items()},
    }


@torch.inference_mode()
def scene_features(
    backbone: Backbone, photos: Sequence[ScenePhoto], folder: Path, start_weights: Path | None
) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]:
    """-> features (N, D) by name, and projected features (N, E) by view.

    Views: `crops`, 3 x 3 native ones as in scoring, whose features are averaged, and `whole`, the middle square made
    small. Of each: `pooled` tokens of the image tower, and its `stem`, the mean of the tokens before the first block.
    """
    tower, size = open_vision_tower(backbone.clip), backbone.image_size_px
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    dtype = next(backbone.clip.parameters()).dtype
    start = (
        Teacher(read_start_weights(start_weights)).bfloat16().to(memory_format=torch.channels_last)
        if start_weights
        else None
    )
    found: dict[str, list[np.ndarray]] = {}
    unit: dict[str, list[torch.Tensor]] = {"crops": [], "whole": []}
    for pixels in _read(photos, folder):
        whole = teacher_view(pixels)[None]
        views = {
            "crops": scoring_views(pixels, ViewConfig(), size),
            "whole": scoring_views(whole[0], ViewConfig(mode="resize", score_grid=1), size),
        }
        for view, crops in views.items():
            tokens_BND = tower.embed(normalize(torch.from_numpy(crops), mean, std).to(dtype))
            pooled_BD = tower.pool(tower.run(tokens_BND, None, 0))
            unit[view].append(F.normalize(tower.project(pooled_BD).float(), dim=-1).mean(dim=0))
            found.setdefault(f"tower, {view}: pooled", []).append(pooled_BD.float().mean(dim=0).numpy())
            found.setdefault(f"tower, {view}: stem", []).append(tokens_BND.float().mean(dim=(0, 1)).numpy())
        if start is not None:
            logits, last = start(torch.from_numpy(whole))
            found.setdefault(CLASSES, []).append(class_features(logits.softmax(dim=-1).half().numpy())[0])
            found.setdefault(LAST_MAP, []).append(last[0].half().numpy())
    features = {name: np.stack(rows) for name, rows in found.items()}
    of_tower = {name: values for name, values in features.items() if name.startswith("tower")}
    for view in unit:
        features[f"tower, {view}: stem + pooled"] = _joined(of_tower, f"{view}:")
    features["tower, crops + whole: pooled"] = _joined(of_tower, ": pooled")
    features["tower, crops + whole: stem + pooled"] = _joined(of_tower, "")
    return features, {view: torch.stack(rows) for view, rows in unit.items()}


def write_scenes(scene_map: SceneMap, described: Path, out: Path) -> None:
    """CSV (image, scene, p) for the photos of a folder that `prepare` has made, by their last map in the start weights.

    p: probability of the scene in [0, 1].
    """
    store, features = PhotoStore(described), described / "features.npy"
    if not features.is_file():
        raise InputError(f"'{described}' lacks features.npy; give a folder that `prepare` has finished")
    probabilities_NS = scene_map.probabilities(np.load(features))
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "scene", "p"))
        for row, p_S in zip(store.rows, probabilities_NS, strict=True):
            writer.writerow((row.name, SCENES[int(p_S.argmax())], f"{p_S.max():.4f}"))


def _read(photos: Sequence[ScenePhoto], folder: Path) -> Iterator[np.ndarray]:
    for photo in photos:
        try:
            yield read_image(folder / photo.image)
        except ImageError as error:
            raise InputError(f"{error}; --rated-photos is BIQ2021's folder Images") from error


def _ask(backbone: Backbone, unit_NE: torch.Tensor) -> np.ndarray:
    return caption_logits(backbone, unit_NE, scene_captions()).argmax(axis=1)


def _joined(features: dict[str, np.ndarray], part: str) -> np.ndarray:
    return np.concatenate([values for name, values in features.items() if part in name], axis=1)


def _numbers(found: SceneAccuracy) -> dict[str, float]:
    return {
        "macro_accuracy": round(found.macro, 4),
        "standard_error": round(found.standard_error, 4),
        "either_word": round(found.either_word, 4),
    }


def _rows(found: SceneAccuracy) -> dict[str, dict[str, int]]:
    rows = {
        scene: dict(zip(SCENES, map(int, row), strict=True))
        for scene, row in zip(SCENES, found.confusion_SS, strict=True)
    }
    return {scene: {other: n for other, n in row.items() if n} for scene, row in rows.items()}

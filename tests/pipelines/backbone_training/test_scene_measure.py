from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.evaluation import scene_map
from grmp_core.evaluation.scene_map import SceneMap
from grmp_core.model.scene_words import SCENES
from grmp_core.nano.photo_store import SourcePhoto, write_store
from pipelines.backbone_training.options import parse
from pipelines.backbone_training.scene_measure import measure_scenes, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A table and a folder of photos, each scene a colour of its own."""
    folder, rng, rows = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0), []
    for scene, colour in zip(SCENES, rng.integers(30, 220, (len(SCENES), 3)), strict=True):
        for i in range(10):
            photo = colour + rng.integers(-5, 6, (40, 48, 3))
            cv2.imwrite(str(folder / f"{scene}{i}.png"), photo.astype(np.uint8))
            rows.append((f"{scene}{i}.png", scene, ""))
    with (folder / "scenes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "scene", "second"), *rows])
    return folder / "scenes.csv", folder


def test_features_that_see_colours_tell_scenes_that_are_colours(scenes, make_backbone, monkeypatch):
    monkeypatch.setattr(scene_map, "STRENGTHS", [0.01, 1.0])
    report = measure_scenes(make_backbone(), *scenes, None)
    assert report["photos"] == {"fit": 45, "test": 45}
    assert report["macro_accuracy"] > 0.9
    assert sum(sum(row.values()) for row in report["confusion"].values()) == 45
    by_features = report["by_features"]
    assert report["macro_accuracy"] == by_features[report["chosen"]]["macro_accuracy"]
    assert by_features[report["chosen"]]["validation"] == max(f["validation"] for f in by_features.values())
    for view in ("crops", "whole"):
        assert report["zero_shot"][view]["macro_accuracy"] < 0.5  # the text tower's weights are random


def test_a_labelled_photo_that_is_not_there_is_named(scenes, make_backbone, tmp_path):
    with pytest.raises(InputError, match=r"animal0\.png"):
        measure_scenes(make_backbone(), scenes[0], tmp_path, None)


def test_scenes_of_a_described_folder_are_written_row_by_row(tmp_path):
    features = np.full((9, 20), 0.01)
    features[np.arange(9), np.arange(9)] = 0.8
    fitted = SceneMap(np.tile(features, (10, 1)), np.tile(np.arange(9), 10))
    photos = []
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((30, 30, 3), np.uint8))
        photos.append(SourcePhoto(path=tmp_path / f"{name}.png", source="some"))
    write_store(tmp_path / "store", photos)
    with pytest.raises(InputError, match=r"features\.npy"):
        write_scenes(fitted, tmp_path / "store", tmp_path / "out.csv")
    np.save(tmp_path / "store" / "features.npy", features[[5, 2]].astype(np.float16))
    write_scenes(fitted, tmp_path / "store", tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["image"], row["scene"]) for row in rows] == [("a.png", "night"), ("b.png", "human")]
    assert all(1 / 9 < float(row["p"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--scenes", "a.csv"],
        ["--rated-photos", "images"],
        ["--material", "m", "--scenes", "a.csv", "--rated-photos", "i"],
    ],
)
def test_measure_takes_material_or_scenes_with_their_photos(given):
    with pytest.raises(SystemExit):
        parse(["measure", "--weights", "w", *given], "")

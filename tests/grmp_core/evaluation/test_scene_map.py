from __future__ import annotations

from collections import Counter
from importlib import resources

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import recall_score

from grmp_core.errors import InputError
from grmp_core.evaluation.scene_map import (
    TEMPERATURES,
    SceneMap,
    ScenePhoto,
    _temperature,
    class_features,
    halves,
    read_scene_table,
    scene_accuracy,
    scene_numbers,
)
from grmp_core.model.scene_words import SCENES


def photos_of(scenes: list[str], second: str | None = None) -> list[ScenePhoto]:
    return [ScenePhoto(image=f"{i}.jpg", scene=scene, second=second) for i, scene in enumerate(scenes)]


def test_the_table_of_the_package_has_400_photos_and_enough_of_each_scene():
    photos = read_scene_table(str(resources.files("grmp_core") / "assets" / "biq2021_scenes.csv"))
    assert len(photos) == 400
    assert min(Counter(photo.scene for photo in photos).values()) >= 15
    assert {photo.image[:4] for photo in photos} == {"ss01", "ss03"}


def test_a_good_table_is_read_in_its_order(tmp_path):
    path = tmp_path / "scenes.csv"
    rows = [f"{scene}{i}.jpg,{scene},{'night' if scene == 'human' else ''}" for scene in SCENES for i in range(10)]
    path.write_text("\n".join(["image,scene,second", *rows]))
    photos = read_scene_table(path)
    assert [photo.image for photo in photos] == [row.split(",")[0] for row in rows]
    assert {photo.second for photo in photos if photo.scene == "human"} == {"night"}
    assert {photo.second for photo in photos if photo.scene != "human"} == {None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,scene\na.jpg,human\n", "lacks a column"),
        ("image,scene,second\na.jpg,human,\nb.jpg,forest,\n", "line 3: 'forest'"),
        ("image,scene,second\na.jpg,human,crowd\n", "line 2: 'human', 'crowd'"),
        ("image,scene,second\na.jpg,human,human\n", "line 2"),
        ("image,scene,second\na.jpg,human\nb.jpg\n", "line 3: ''"),
        ("image,scene,second\n,human,\n", "line 2: image '' is empty"),
        ("image,scene,second\na.jpg,human,\na.jpg,night,\n", "line 3: image 'a.jpg' is named twice"),
        ("image,scene,second\na.jpg,human,\n", "too few photos of animal, cityscape"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path, text, message):
    path = tmp_path / "scenes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_scene_table(path)


def test_an_absent_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_scene_table(tmp_path / "none.csv")


def test_halves_share_no_photo_and_halve_every_scene():
    numbers = np.repeat(np.arange(9), np.arange(10, 28, 2))
    fit, test = halves(numbers)
    assert sorted([*fit, *test]) == list(range(len(numbers)))
    np.testing.assert_array_equal(np.bincount(numbers[fit]), np.bincount(numbers[test]))
    np.testing.assert_array_equal(halves(numbers)[0], fit)


def test_a_map_learns_scenes_that_lie_apart_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    numbers = np.tile(np.arange(9), 10)
    known = np.eye(9)[numbers] + 0.05 * rng.normal(size=(90, 9))
    learned, ignorant = SceneMap(known, numbers), SceneMap(rng.normal(size=(90, 9)), numbers)
    assert learned.validation_macro_accuracy == 1
    assert ignorant.validation_macro_accuracy < 0.35
    probabilities = learned.probabilities(known)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), numbers)


def test_probabilities_stand_in_the_order_of_the_scenes_also_where_one_was_never_seen():
    rng = np.random.default_rng(0)
    numbers = np.tile([2, 5, 8], 10)
    features = np.eye(9)[numbers] + 0.4 * rng.normal(size=(30, 9))
    probabilities = SceneMap(features, numbers).probabilities(features)
    assert probabilities.shape == (30, 9)
    assert not probabilities[:, [0, 1, 3, 4, 6, 7]].any()
    assert np.mean(probabilities.argmax(axis=1) == numbers) > 0.8


def test_accuracy_by_hand_and_by_scikit_learn():
    photos = photos_of(["animal"] * 4 + ["night"] * 2, second="plant")
    predicted = np.array([SCENES.index(s) for s in ("animal", "animal", "animal", "plant", "night", "human")])
    found = scene_accuracy(photos, predicted)
    assert found.macro == pytest.approx((3 / 4 + 1 / 2) / 2)
    numbers = scene_numbers(photos)
    assert found.macro == pytest.approx(recall_score(numbers, predicted, labels=np.unique(numbers), average="macro"))
    assert found.either_word == pytest.approx((4 / 4 + 1 / 2) / 2)
    assert found.standard_error == pytest.approx(np.sqrt(0.75 * 0.25 / 4 + 0.5 * 0.5 / 2) / 2)
    assert found.confusion_SS[0].tolist() == [3, 0, 0, 0, 0, 0, 1, 0, 0]
    assert found.confusion_SS.sum() == 6


def test_class_features_are_the_logits_up_to_a_constant():
    logits = np.random.default_rng(0).normal(size=(3, 20))
    classes = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(class_features(classes), logits - logits.mean(axis=1, keepdims=True), atol=1e-9)
    assert np.isfinite(class_features(np.eye(20, dtype=np.float16))).all()


def test_the_temperature_makes_probabilities_of_exaggerated_ones():
    """Labels drawn by known probabilities, the logits then tripled."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(4000, 5))
    truth = np.array([rng.choice(5, p=p) for p in softmax(logits, axis=1)])
    assert _temperature(softmax(3 * logits, axis=1), truth) == pytest.approx(3, rel=0.1)
    assert _temperature(softmax(logits / 2, axis=1), truth) == pytest.approx(0.5, rel=0.1)


def test_scenes_that_are_told_apart_without_an_error_have_probabilities_too():
    scenes = np.repeat(np.arange(3), 20)
    fitted = SceneMap(100.0 * np.eye(9)[scenes], scenes)
    assert fitted.temperature == pytest.approx(TEMPERATURES[0], rel=0.05)
    probabilities = fitted.probabilities(100.0 * np.eye(9)[:3])
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]

from __future__ import annotations

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.nano.content import SCENES, scene_table, scene_weights, words_of_scenes

NAMES = [f"class_{i}" for i in range(1000)]


def test_the_first_word_of_each_scene_is_the_published_one():
    published = ["animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others"]
    assert words_of_scenes() == published == list(SCENES)


def test_classes_imply_scenes_by_their_place_and_word():
    names = list(NAMES)
    names[762], names[134] = "restaurant", "castle"  # the second is an animal's place, whatever its word
    table = scene_table(names)
    assert SCENES[table[762].argmax()] == "indoor"
    assert SCENES[table[134].argmax()] == "animal"
    assert SCENES[table[985].argmax()] == "plant"
    assert set(table.sum(axis=1)) == {0.0, 1.0}
    with pytest.raises(InputError, match="999 class names"):
        scene_table(names[:999])


def test_scene_weights_are_shares_of_what_is_known_and_dark_cities_are_night():
    table = np.zeros((4, len(SCENES)), np.float32)
    city, animal, night = (SCENES.index(word) for word in ("cityscape", "animal", "night"))
    table[0, city] = table[1, animal] = 1
    classes = np.array([[0.6, 0.2, 0.2, 0], [0.6, 0.2, 0.2, 0], [0.1, 0.1, 0.8, 0]])
    weights = scene_weights(classes, table, np.array([120.0, 20.0, 120.0]))
    assert weights[0, city] == pytest.approx(0.75)
    assert weights[0, animal] == pytest.approx(0.25)
    assert weights[1, night] == pytest.approx(0.75)
    assert weights[1, city] == 0
    assert not weights[2].any(), "too little of the third photo's classes is known"

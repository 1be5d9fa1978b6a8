"""Scenes of a target's images from a table."""

from __future__ import annotations

import pytest

from grmp_core.errors import InputError
from pipelines.few_shot.target_protocol import read_scenes

PATHS = ["/photos/a.jpg", "/photos/b.jpg"]


def test_scenes_come_in_the_order_of_the_images(tmp_path):
    (tmp_path / "scenes.csv").write_text("\ufeffimage,scene,p\nb.jpg,night,.9\nother.jpg,plant,.8\na.jpg,human,.7\n")
    assert read_scenes(str(tmp_path / "scenes.csv"), PATHS) == ("human", "night")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("name,scene\na.jpg,human\n", "no column 'image'"),
        ("image,scene\na.jpg,human\na.jpg,night\nb.jpg,night\n", "line 3 gives another scene to a.jpg"),
        ("image,scene\na.jpg,human\nb.jpg,\n", "no scene for 1 of 2 images, such as b.jpg"),
    ],
)
def test_tables_that_do_not_say_every_scene_are_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "scenes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_scenes(str(tmp_path / "scenes.csv"), PATHS)

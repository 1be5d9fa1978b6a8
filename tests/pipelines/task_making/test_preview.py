"""The contact sheet: every task at every level, its label, nothing else written."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from grmp_core.distortions import KADID_NAMES, REGISTRY
from grmp_core.errors import InputError
from grmp_core.procedural import scenes
from pipelines.cli import run_command
from pipelines.configuration.pretraining import PreviewConfig, SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.task_making import preview
from pipelines.task_making.preview import TILE_PX, make_sheet

TASKS = ("jpeg", "colour_block", "noisy_compression", "mean_shift")


def config_of(folder: Path, file: str = "sheet.html", image: str | None = None, **settings) -> Config:
    shown = PreviewConfig(output=str(folder / file), image=image)
    return Config(
        output=str(folder / "run"), preview=shown, synthesize=SynthesizeConfig(**{"tasks": TASKS, **settings})
    )


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    return make_sheet(config_of(tmp_path_factory.mktemp("sheet")))


def tiles_of(sheet, task: str) -> list:
    [line] = [line for group in sheet.groups for line in group.lines if line.name == task]
    return list(line.tiles)


def test_lines_stand_under_their_group_with_description_and_labels(sheet):
    assert [(group.title, [line.name for line in group.lines]) for group in sheet.groups] == [
        ("Compression", ["jpeg", "noisy_compression"]),
        ("Spatial", ["colour_block"]),
        ("Brightness", ["mean_shift"]),
    ]
    for group in sheet.groups:
        for line in group.lines:
            assert line.description == REGISTRY[line.name].description
            assert [re.fullmatch(r"level (\d) · [01]\.\d\d", tile.label)[1] for tile in line.tiles] == list("12345")
            assert {tile.image_HW3.shape for tile in line.tiles} == {(TILE_PX, TILE_PX, 3)}


def test_tiles_show_the_same_place_and_the_identity_shows_the_picture(sheet):
    untouched = sheet.untouched.image_HW3
    assert np.array_equal(tiles_of(sheet, "mean_shift")[2].image_HW3, untouched)
    lighter = tiles_of(sheet, "mean_shift")[1].image_HW3.astype(int) - untouched
    assert np.median(lighter) == pytest.approx(0.08 * 255, abs=1)


def test_damage_that_spares_the_middle_is_looked_for():
    scene = np.full((400, 500, 3), 90, np.uint8)
    damaged = scene.copy()
    damaged[10:30, 450:470] = 255
    assert preview._damaged_part(scene, damaged).max() == 255
    assert preview._damaged_part(scene, scene).shape == (TILE_PX, TILE_PX, 3)
    everywhere = scene + np.random.default_rng(0).integers(0, 5, scene.shape, dtype=np.uint8)
    assert np.array_equal(preview._damaged_part(scene, everywhere), everywhere[112 : 112 + 176, 162 : 162 + 176])


def test_html_holds_every_tile_without_loss_and_loads_nothing(tmp_path, sheet):
    done = preview.write_preview(config_of(tmp_path))
    assert done.tiles == 5 * len(TASKS)
    page = (tmp_path / "sheet.html").read_text()
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    assert len(pictures) == done.tiles + 1
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[1]))).convert("RGB"))
    assert np.array_equal(first, tiles_of(sheet, "jpeg")[0].image_HW3)
    assert all(html.escape(REGISTRY[task].description) in page for task in TASKS)
    assert not re.search(r"https?://|<script|<link", page)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"], "a preview writes its file and nothing else"


def test_png_holds_the_tiles_at_native_resolution(tmp_path, sheet):
    preview.write_preview(config_of(tmp_path, "sheet.png"))
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    tile = tiles_of(sheet, "jpeg")[0].image_HW3
    match = cv2.matchTemplate(picture, tile, cv2.TM_SQDIFF)
    top, left = np.unravel_index(match.argmin(), match.shape)
    assert np.array_equal(picture[top : top + TILE_PX, left : left + TILE_PX], tile)


def test_no_task_named_means_kadid10k_and_a_chosen_photo_is_shown(tmp_path):
    image = scenes.reference(3, 300, 900)
    cv2.imwrite(str(tmp_path / "mine.png"), image[:, :, ::-1])
    sheet = make_sheet(config_of(tmp_path, tasks=(), image=str(tmp_path / "mine.png")))
    assert sheet.title == "mine.png"
    assert "900 x 300 px" in sheet.remark
    assert {line.name for group in sheet.groups for line in group.lines} == set(KADID_NAMES)
    assert np.array_equal(sheet.untouched.image_HW3, image[62 : 62 + TILE_PX, 362 : 362 + TILE_PX])


def test_the_first_photo_of_a_folder_is_shown_and_a_small_one_enlarged(tmp_path):
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), scenes.reference(4, 90, 100)[:, :, ::-1])
    sheet = make_sheet(config_of(tmp_path, source="photos", path=str(tmp_path), tasks=("jpeg",)))
    assert sheet.title == "a.png"
    assert tiles_of(sheet, "jpeg")[4].image_HW3.shape == (TILE_PX, TILE_PX, 3)


def test_a_published_set_shows_its_own_pictures_and_scores(tmp_path):
    lines = []
    for level in range(1, 6):
        (tmp_path / "distorted_images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "distorted_images" / f"i01_10_{level}.bmp"), np.full((190, 200, 3), 40 * level))
        lines.append(f"{7 - level} i01_10_{level}.bmp\n")
    (tmp_path / "mos_with_names.txt").write_text("".join(lines))
    sheet = make_sheet(config_of(tmp_path, source="tid2013", path=str(tmp_path), tasks=("jpeg",)))
    assert sheet.untouched is None
    assert [tile.label for tile in tiles_of(sheet, "jpeg")] == [f"level {k} · {(7 - k) / 9:.2f}" for k in range(1, 6)]
    assert [int(tile.image_HW3.mean()) for tile in tiles_of(sheet, "jpeg")] == [40, 80, 120, 160, 200]
    with pytest.raises(InputError, match="no reference has all 10 pictures"):
        make_sheet(config_of(tmp_path, source="tid2013", path=str(tmp_path), tasks=("jpeg", "jpeg2000")))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("preview.output=sheet.gif", "ends in .html or .png"),
        ("preview.image=nowhere.jpg", "nowhere.jpg: cannot be read"),
        ("synthesize.tasks=[gausian_blur]", "did you mean gaussian_blur?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(setting, message, tmp_path, capsys):
    settings = [f"preview.output={tmp_path / 'sheet.png'}", setting]
    assert run_command("preview", [part for text in settings for part in ("--set", text)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())

"""`grmp inspect` on a small set with planted duplicates, a leak, a shortcut and a bad file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import DEFAULT_LIMITS, image_bytes, image_id
from grmp_core.inspection import leaks
from grmp_core.inspection.near_duplicates import hash_of
from grmp_core.model.backbone import BackboneConfig
from grmp_core.model.bundle import LEARNED_FROM, Bundle, write_bundle
from grmp_core.model.prompts import PromptConfig
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from grmp_core.strict_json import json_text
from pipelines.cli import run_command
from pipelines.configuration.loading import load_config
from pipelines.few_shot import file_survey
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.target_splits import split_table
from pipelines.inspection.inspection_run import inspect_target

COUNT = 60
LEAK = 7
PAIR = (11, 42)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 scenes, bad ones small and PNG; two are nearly the same, two files equal, one is no image."""
    folder = tmp_path_factory.mktemp("photos")
    rows: list[tuple[str, object]] = [("image", "mos")]
    for number in range(COUNT):
        scene = PAIR[0] if number == PAIR[1] else number
        side = 120 + 2 * number
        image = Image.fromarray(scenes.reference(900 + scene, 240, 320)).resize((side, side))
        name = f"{number}.{'png' if number < 20 else 'jpg'}"
        image.save(folder / name)
        rows.append((name, 1 + number / 15))
    (folder / "59.jpg").write_bytes((folder / "30.jpg").read_bytes())
    (folder / "58.jpg").write_bytes(b"no image")
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


@pytest.fixture
def known(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone was trained on one of the photos."""
    with Image.open(photos / f"{LEAK}.png") as image:
        hashes = np.array([hash_of(np.asarray(image))], np.uint64)
    monkeypatch.setattr("pipelines.inspection.inspection_run.training_hashes", lambda *_: hashes)


def inspect(photos: Path, output: Path, *settings: str) -> dict:
    given = [f"target.path={photos}", f"output={output}", "target.max_reject_fraction=0.1", *settings]
    return inspect_target(load_config(None, given)).as_json()


@pytest.mark.usefixtures("known")
def test_what_was_planted_is_found(photos: Path, tmp_path: Path) -> None:
    found = inspect(photos, tmp_path)
    assert found["images"] == COUNT
    assert [row["name"] for row in found["unreadable"]] == ["58.jpg"]
    assert found["leaks"]["images"] == [f"{LEAK}.png"]
    assert found["leaks"]["known_photos"] == 1
    near = {tuple(group["images"]) for group in found["duplicates"]["groups"]}
    assert near == {("11.png", "42.jpg")}, "equal files share a reference, so they are told apart from these"
    assert found["duplicates"]["equal_files"] == {"groups": 1, "images": 2}
    assert found["duplicates"]["within_references"] == 1
    assert {kind["kind"]: kind["images"] for kind in found["kinds"]} == {"JPEG": 39, "PNG": 20}
    hints = {one["name"] for one in found["shortcuts"]["properties"] if one["is_hint"]}
    assert {"megapixels", "place in the table"} <= hints
    assert sum(found["scores"]["histogram"]["counts"]) == COUNT
    assert json.loads((tmp_path / "inspect/inspection.json").read_text()) == json.loads(json_text(found))
    page = (tmp_path / "inspect/inspection.html").read_text()
    for words in (
        "1 image is among the near-duplicates of training photos",
        "a hint at a shortcut",
        "58.jpg: not an image",
    ):
        assert words in page
    assert page.count("<img") > 20


@pytest.mark.usefixtures("known")
def test_splits_for_others_keep_duplicates_together_and_leave_leaks_out(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    seeds = "sweep.split_seeds=[0, 1, 2, 3]"
    inspect(photos, tmp_path, f"inspect.write_splits={file}", seeds)
    config = load_config(None, [f"target.path={photos}", f"sweep.splits={file}", seeds])
    table = split_table(config.sweep, load_target(config.target))
    for seed in range(4):
        split = table.split(seed)
        assert len(split.test) == round(0.2 * 56) or len(split.test) == round(0.2 * 56) + 1
        assert len(split.train) + len(split.test) == COUNT - 2, "without the leak and the bad file"
        for parts in (split.train, split.test):
            assert LEAK not in parts
            assert (PAIR[0] in parts) == (PAIR[1] in parts)
            assert (30 in parts) == (59 in parts)


def test_labels_that_a_model_has_learned_from_are_found(photos: Path, tmp_path: Path) -> None:
    seen = [image_id(image_bytes(str(photos / f"{number}.jpg"))) for number in (25, 26)]
    config = load_config(None)
    bundle = Bundle(
        kind="model", backbone=BackboneConfig(), backbone_sha256="0" * 64, prompts=PromptConfig(), views=config.views,
        precision="fp32", parameters={"a": torch.zeros(1)}, provenance={LEARNED_FROM: seen},
    )  # fmt: skip
    write_bundle(locate(tmp_path / "bundle"), bundle)
    found = inspect(photos, tmp_path, f"inspect.model={tmp_path / 'bundle'}")
    assert found["leaks"]["learned_from"] == ["25.jpg", "26.jpg"]
    assert found["leaks"]["known_photos"] == len(leaks.training_hashes("grmp-nano"))  # type: ignore[arg-type]


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, splits = f"output={tmp_path}", str(tmp_path / "s.csv")
    reject = "target.max_reject_fraction=0.1"
    assert run_command("inspect", [str(photos), "--write-splits", splits, "--set", output, "--set", reject]) == 0
    text = capsys.readouterr().out
    assert text.startswith("60 images, 59 references, scores 1 to 4.933\n")
    assert text.rstrip().endswith(splits)
    assert run_command("inspect", [str(photos), "--write-splits", str(photos), "--set", output, "--set", reject]) == 2
    assert "it is a folder; name a file" in capsys.readouterr().err


@pytest.mark.ray
def test_the_survey_of_a_cluster_is_that_of_one_process(
    photos: Path, monkeypatch: pytest.MonkeyPatch, ray_instance: None
) -> None:
    paths = [str(path) for path in sorted(photos.glob("*.[pj]*g"))]
    here = file_survey.survey("inspect", paths, DEFAULT_LIMITS)
    monkeypatch.setattr(file_survey, "FEW", 0)
    there = file_survey.survey("inspect", paths, DEFAULT_LIMITS)
    assert here.astype({"perceptual_hash": "uint64"}).to_dict("list") == there.to_dict("list")


def test_splits_that_do_not_fit_the_target(photos: Path, tmp_path: Path) -> None:
    target = load_target(load_config(None, [f"target.path={photos}"]).target)
    for value, problem in (
        ("official", "table has no official split"),
        (str(tmp_path / "absent.csv"), "no such file; use auto, reference, official, or a split file"),
        (str(photos / "labels.csv"), r"labels\.csv: no split file"),
    ):
        with pytest.raises(InputError, match=problem):
            split_table(load_config(None, [f"sweep.splits={value}"]).sweep, target)


@pytest.mark.parametrize("name", ["official", "split_7"])
def test_a_given_split_loses_training_images_with_near_duplicates_in_the_test_part(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    tested = {PAIR[1], 59, 2}
    rows = [f"{n}.{'png' if n < 20 else 'jpg'},{'test' if n in tested else 'train'}" for n in range(COUNT)]
    given, file = tmp_path / "given.csv", tmp_path / "splits.csv"
    given.write_text("\n".join([f"image,{name}", *rows]))
    inspect(photos, tmp_path, f"sweep.splits={given}", f"inspect.write_splits={file}")
    parts = dict(csv.reader(file.read_text().splitlines()))
    assert parts.pop("image") == name
    sides = {image: parts[image] for image in ("11.png", "42.jpg", "30.jpg", "59.jpg", "12.png")}
    assert list(sides.values()) == ["", "test", "", "test", "train"]
    assert f"2 of 56 training images are left out of the split {name}" in capsys.readouterr().err


def test_a_set_of_which_no_image_can_be_read(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text("image,mos\na.png,1\nb.png,2\nc.png,3\n")
    found = inspect(tmp_path, tmp_path / "out", "target.max_reject_fraction=1")
    assert len(found["unreadable"]) == 3
    assert found["duplicates"]["groups"] == []

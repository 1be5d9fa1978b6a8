"""`grmp score` of videos: a planted bad second shows, a bad file costs its row, folders go over Ray Data."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from grmp_core.errors import InputError
from grmp_core.imaging.readers import READERS
from grmp_core.model.scorer import Score, Scorer
from grmp_core.procedural import scenes
from pipelines.cli import BAD_INPUT, FAILURE, OK, run_command
from pipelines.video import video_run
from pipelines.video.video_inputs import videos_of
from tests.grmp_core.video.clips import write_clip

BAD_SECOND = 2


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of a moving scene at 10 frames a second; the third one is black."""
    scene = scenes.reference(3, 120, 200)
    frames = [np.ascontiguousarray(scene[20:116, i : i + 128]) for i in range(50)]
    for i in range(10 * BAD_SECOND, 10 * BAD_SECOND + 10):
        frames[i] = np.zeros_like(frames[i])
    return write_clip(tmp_path_factory.mktemp("video") / "clip.avi", frames)


@pytest.fixture
def by_brightness(monkeypatch: pytest.MonkeyPatch):
    """Quality is the brightness of a frame: what matters here is that the score of a frame reaches its second."""

    def score(self, sources):
        [pixels] = sources
        return [Score(float(pixels.mean()) / 255, float("nan"))]

    monkeypatch.setattr(Scorer, "score", score)


def run(*arguments: str, model: str, output: Path) -> int:
    return run_command("score", [*arguments, "--model", model, "--set", f"output={output}", "--json"])


def test_a_planted_bad_second_shows(clip, unadapted_folder, by_brightness, tmp_path, capsys):
    assert run(str(clip), "--fps", "5", model=unadapted_folder, output=tmp_path) == OK
    found = json.loads(capsys.readouterr().out)
    assert [window["start_s"] for window in found["windows"]] == [0, 1, 2, 3, 4]
    assert [window["frames"] for window in found["windows"]] == [5] * 5
    assert found["worst"]["start_s"] == BAD_SECOND
    others = [w["quality"] for w in found["windows"] if w["start_s"] != BAD_SECOND]
    assert found["worst"]["quality"] < 0.05 < min(others)
    assert found["quality"] == found["pooled"]["harmonic"] < found["pooled"]["mean"]
    page = Path(f"{found['files']}.html").read_text()
    assert page.count("data:image/jpeg") == 5
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    first = re.search(r"data:image/jpeg;base64,([^\"]+)", page)
    assert first is not None
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(first[1]), np.uint8), cv2.IMREAD_COLOR)
    assert shown.mean() < 5


def test_window_and_pooling_are_settings(clip, unadapted_folder, by_brightness, tmp_path, capsys):
    options = ("--window", "2.5", "--set", "video.pooling=mean", "--set", "video.worst=0")
    assert run(str(clip), "--fps", "2", *options, model=unadapted_folder, output=tmp_path) == OK
    found = json.loads(capsys.readouterr().out)
    assert [window["frames"] for window in found["windows"]] == [5, 5]
    assert found["quality"] == found["pooled"]["mean"]
    assert "data:image/jpeg" not in Path(f"{found['files']}.html").read_text()


def test_the_score_of_a_frame_is_that_of_the_image(clip, unadapted_folder, tmp_path, capsys):
    assert run(str(clip), "--fps", "1", model=unadapted_folder, output=tmp_path) == OK
    found = json.loads(capsys.readouterr().out)
    capture = cv2.VideoCapture(str(clip))
    cv2.imwrite(str(tmp_path / "frame.png"), capture.read()[1])
    assert run(str(tmp_path / "frame.png"), model=unadapted_folder, output=tmp_path) == OK
    [image] = json.loads(capsys.readouterr().out)["scores"]
    assert found["windows"][0]["quality"] == pytest.approx(image["quality"], abs=1e-6)


def test_bad_files_cost_a_row_or_one_line(clip, unadapted_folder, by_brightness, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    assert run(str(bad), model=unadapted_folder, output=tmp_path) == BAD_INPUT
    told = capsys.readouterr()
    assert told.err.strip().endswith("bad.mp4: no video that can be decoded: damaged, cut off, or of another kind")
    table = tmp_path / "videos.csv"
    assert run(str(clip), str(bad), "--output", str(table), model=unadapted_folder, output=tmp_path) == OK
    rows = pd.read_csv(table)
    assert rows["error"].notna().tolist() == [False, True]
    found = json.loads(capsys.readouterr().out)
    assert (found["scored"], found["failed"]) == (1, 1)
    again = tmp_path / "worse.mp4"
    again.write_bytes(b"no video either")
    assert run(str(again), str(bad), model=unadapted_folder, output=tmp_path) == FAILURE


def test_a_name_that_is_not_utf8_costs_its_row(clip, unadapted_folder, by_brightness, tmp_path, capsys, monkeypatch):
    """In this process, and over workers, whose inputs are Arrow tables."""

    def in_this_process(config, bundle, worker, given, inputs, **options):
        return worker(*given)(pa.Table.from_pylist(list(inputs))).to_pylist()

    monkeypatch.setattr(video_run, "rows_on_cluster", in_this_process)
    films = tmp_path / "films"
    films.mkdir()
    for name in ("b.avi", "caf\udce9.avi", "c.avi"):
        (films / name).write_bytes(clip.read_bytes())
        if name == "b.avi":
            continue
        assert run(str(films), "--fps", "1", model=unadapted_folder, output=tmp_path) == OK
        rows = {Path(row["video_path"]).name: row["error"] for row in json.loads(capsys.readouterr().out)["videos"]}
        good = dict.fromkeys(("b.avi",) if name != "c.avi" else ("b.avi", "c.avi"))
        assert rows == {**good, r"caf\xe9.avi": "its name is not UTF-8; rename it"}


def paths_of(*entries: str | Path) -> list[str]:
    found = videos_of([str(entry) for entry in entries])
    assert found is not None
    return list(found.paths)


def test_an_image_with_an_unknown_ending_or_none_makes_a_folder_one_of_images(tmp_path, monkeypatch):
    """As of a phone: .mov beside .heic, which is told by its content where its reader is there."""
    phone = tmp_path / "phone"
    phone.mkdir()
    (phone / "IMG_1.MOV").write_bytes(b"")
    (phone / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setitem(READERS, "HEIC", READERS["JPEG"])
    assert videos_of([str(phone)]) is None
    assert videos_of([f"{phone}/*"]) is None
    (phone / "IMG_1.HEIC").unlink()
    (phone / "image").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert videos_of([str(phone)]) is None
    (phone / "image").unlink()
    assert paths_of(phone) == [f"{phone}/IMG_1.MOV"]


def test_hidden_files_of_a_folder_are_left_out(tmp_path):
    for name in ("a.mp4", "._a.mp4", ".thumbs/a.jpg", ".deep/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert paths_of(tmp_path) == paths_of(f"{tmp_path}/*") == paths_of(f"{tmp_path}/**") == [f"{tmp_path}/a.mp4"]


def test_other_files_of_a_folder_of_videos_are_counted_and_named(
    clip, unadapted_folder, by_brightness, tmp_path, capsys
):
    films = tmp_path / "films"
    films.mkdir()
    (films / "a.avi").write_bytes(clip.read_bytes())
    for name in ("notes.txt", "a.srt", "b.srt"):
        (films / name).write_text("words")
    assert run(str(films), "--fps", "1", model=unadapted_folder, output=tmp_path) == OK
    told = capsys.readouterr()
    assert f"{films}: 3 files not taken: .srt 2, .txt 1" in told.err
    names = [str(films / name) for name in ("a.srt", "b.srt", "notes.txt")]
    assert [left["path"] for left in json.loads(told.out)["not_taken"]] == names
    manifest = json.loads((tmp_path / "video" / "manifest.json").read_text())
    assert [left["path"] for left in manifest["not_taken"]] == names
    assert manifest["counts"]["not_taken"] == 3


def test_one_video_goes_to_workers_where_only_they_can_have_the_gpu(
    clip, unadapted_folder, by_brightness, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked: list[float] = []

    def on_a_node_with_a_gpu(config, bundle, worker, given, inputs, **options):
        asked.append(config.score.gpus_per_worker)
        cpu = dataclasses.replace(config, score=dataclasses.replace(config.score, gpus_per_worker=0))
        return worker(cpu, *given[1:])(pa.Table.from_pylist(list(inputs))).to_pylist()

    monkeypatch.setattr(video_run, "rows_on_cluster", on_a_node_with_a_gpu)
    gpu = ("--fps", "1", "--set", "score.gpus_per_worker=1")
    assert run(str(clip), *gpu, model=unadapted_folder, output=tmp_path) == OK
    there = json.loads(capsys.readouterr().out)
    assert run(str(clip), "--fps", "1", model=unadapted_folder, output=tmp_path) == OK
    assert (asked, there) == ([1], json.loads(capsys.readouterr().out))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    assert run(str(bad), *gpu, model=unadapted_folder, output=tmp_path) == BAD_INPUT
    assert "bad.mp4: no video that can be decoded" in capsys.readouterr().err


def test_which_inputs_are_videos(tmp_path):
    for name in ("films/a.MP4", "films/deep/b.mkv", "films/notes.txt", "photos/a.jpg", "photos/clip.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    films, photos = tmp_path / "films", tmp_path / "photos"
    assert paths_of(films) == [f"{films}/a.MP4", f"{films}/deep/b.mkv"]
    assert paths_of(f"{films}/*.MP4", "s3://bucket/c.mov") == [f"{films}/a.MP4", "s3://bucket/c.mov"]
    assert videos_of([str(photos)]) is None
    assert videos_of(["nothing.jpg", str(tmp_path / "missing")]) is None
    assert videos_of([]) is None
    with pytest.raises(InputError, match=r"also .*photos; score images and videos in runs of their own"):
        videos_of([str(films), str(photos)])


@pytest.mark.ray
def test_a_folder_over_ray_data(clip, tmp_path, capsys, ray_instance):
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a.avi", "b.avi"):
        (films / name).write_bytes(clip.read_bytes())
    (films / "c.avi").write_bytes(b"no video")
    assert run(str(films), "--set", "score.workers=1", model="backbone", output=tmp_path) == OK
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["video_path"]).name for row in found["videos"]] == ["a.avi", "b.avi", "c.avi"]
    assert [row["error"] is None for row in found["videos"]] == [True, True, False]
    assert found["videos"][0]["quality"] == found["videos"][1]["quality"]
    assert all(Path(f"{row['files']}.html").is_file() for row in found["videos"][:2])

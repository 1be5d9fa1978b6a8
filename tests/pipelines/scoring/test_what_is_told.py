"""A scoring tells which files it does not take, and which pixels it doubts. Without Ray."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest

from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.scoring import cluster_scorer, score_rows
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.scoring_run import score_images
from tests.grmp_core.imaging import pictures

NOTE = "samples use only 10 of 16 bits; scored as 16-bit"


@pytest.fixture
def config(tmp_path) -> Config:
    """A model, and a folder with two photos, three pictures of few bits, and files of other kinds."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(2):
        (images / f"{i}.png").write_bytes(pictures.encoded(pictures.photo(230, 240), "PNG"))
    dark = np.arange(230 * 240).reshape(230, 240, 1) % 1024
    for i in range(3):
        (images / f"dark-{i}").write_bytes(pictures.png_of(dark, 0, 16))
    (images / "notes.pdf").write_bytes(b"%PDF-1.7" + bytes(40))
    (images / "labels.csv").write_text("image,mos\n")
    config = Config(views=ViewConfig(score_grid=1))
    write_bundle(locate(tmp_path / "bundle"), arms.random_prompts(config))
    scoring = ScoreConfig(
        images=(str(images),), model=str(tmp_path / "bundle"), output=str(tmp_path / "scores.csv"), grid=1
    )
    return dataclasses.replace(config, output=str(tmp_path), score=scoring)


def told(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_doubts_and_files_not_taken_are_counted(config, tmp_path, capsys):
    scored = score_images(config)
    assert scored.scores["error"].isna().all()
    assert len(scored.scores) == 5
    lines = told(capsys)
    assert f"{config.score.images[0]}: 2 files not taken: .csv 1, .pdf 1" in lines
    assert f"score: 3 images: {NOTE}" in lines


def test_the_manifest_lists_what_was_not_taken_and_what_failed(config, tmp_path):
    (tmp_path / "images" / "torn.png").write_bytes((tmp_path / "images" / "0.png").read_bytes()[:200])
    score_images(config)
    manifest = json.loads((tmp_path / "scores.csv.manifest.json").read_text())
    assert manifest["command"] == "score"
    assert manifest["counts"] == {"images": 6, "without_score": 1, "not_taken": 2, "unlike": 0}
    assert [entry["path"] for entry in manifest["not_taken"]] == [
        str(tmp_path / "images" / name) for name in ("labels.csv", "notes.pdf")
    ]
    assert manifest["not_taken"][1]["reason"] == "no image by its content"
    assert [entry["path"] for entry in manifest["rejected"]] == [str(tmp_path / "images" / "torn.png")]
    assert "truncated" in manifest["rejected"][0]["reason"]


def test_doubts_of_workers_are_counted(config, monkeypatch, capsys):
    def on_cluster(
        config: Config, bundle: object, where: str, images: Sequence[ImageInput]
    ) -> Iterator[dict[str, object]]:
        worker = cluster_scorer.ScoringWorker(bundle, where, config.images, config.score, [])
        yield from worker(pa.Table.from_pylist([dataclasses.asdict(image) for image in images])).to_pylist()

    monkeypatch.setattr(cluster_scorer, "score_on_cluster", on_cluster)
    few = dataclasses.replace(config.score, local_images=2)
    scored = score_images(dataclasses.replace(config, score=few))
    assert list(scored.scores.columns) == score_rows.SCORES.names
    assert f"score: 3 images: {NOTE}" in told(capsys)

"""Scoring many images: what a run that dies leaves behind, and what takes part again. Without Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.model.scorer import Score, Scorer
from grmp_core.model.settings import PromptConfig
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.scoring import batch_scorer, cluster_rows, cluster_scorer, model_lookup, score_rows
from pipelines.scoring.file_stamps import stamp_of
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.scoring_run import score_images

NUM_IMAGES = 30


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    """A prompt bundle and a folder of pictures."""
    folder = tmp_path_factory.mktemp("score")
    (folder / "images").mkdir()
    for i in range(NUM_IMAGES):
        cv2.imwrite(str(folder / "images" / f"{i:02}.png"), scenes.reference(i, 230, 300))
    config = Config(views=ViewConfig(score_grid=1))
    write_bundle(locate(folder / "bundle"), arms.random_prompts(config))
    scoring = ScoreConfig(
        images=(str(folder / "images"),),
        model=str(folder / "bundle"),
        output=str(folder / "scores.parquet"),
        local_images=16,
    )
    return Config(output=str(folder), score=scoring)


def test_a_node_that_does_not_see_the_weights_file_gets_its_content(make_backbone, monkeypatch, tmp_path):
    backbone = make_backbone()
    file = Path(backbone.config.checkpoint)
    bundle = arms.random_prompts(Config(backbone=backbone.config, prompts=PromptConfig(visual_tokens=2)))
    assert cluster_rows.with_weights_here(bundle, []) is bundle
    gone = dataclasses.replace(bundle.backbone, checkpoint=f"/on/another/machine/{file.name}")
    monkeypatch.setattr(cluster_rows.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(cluster_rows.ray, "get", lambda reference: {"shipped": file.read_bytes()}[reference])
    for shipped in (["shipped"], []):  # a second worker of the node finds the file there
        brought = cluster_rows.with_weights_here(dataclasses.replace(bundle, backbone=gone), shipped)
        assert Path(brought.backbone.checkpoint).is_relative_to(tmp_path)
        scored = Scorer(brought, "test").score([scenes.reference(0, 230, 300)])
        assert 0 < scored[0].quality < 1


def test_a_model_whose_weights_file_moved_is_opened_with_backbone_checkpoint(make_backbone, tmp_path):
    here = make_backbone().config
    bundle = arms.random_prompts(Config(backbone=here, prompts=PromptConfig(visual_tokens=2)))
    gone = dataclasses.replace(bundle.backbone, checkpoint=str(tmp_path / "gone.safetensors"))
    write_bundle(locate(tmp_path / "bundle"), dataclasses.replace(bundle, backbone=gone))
    config = Config(score=ScoreConfig(model=str(tmp_path / "bundle")))
    with pytest.raises(InputError, match="' does not exist; give the path of a weights file"):
        model_lookup.open_model(config)
    _, opened = model_lookup.open_model(dataclasses.replace(config, backbone=here))
    assert opened.backbone == here


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Paths that were scored, instead of a cluster that scores them; the 13th row of the first run kills it."""
    seen: list[str] = []

    def on_cluster(
        config: Config, bundle: object, where: str, images: Sequence[ImageInput]
    ) -> Iterator[dict[str, object]]:
        for count, image in enumerate(reversed(images)):
            if count == 12 and len(images) == NUM_IMAGES:
                raise RuntimeError("the driver dies")
            seen.append(image.path)
            quality = int(Path(image.path).stem) / 100
            yield score_rows.row_of(image, Score(quality, 1.0), [stamp_of(image.path)])

    monkeypatch.setattr(cluster_scorer, "score_on_cluster", on_cluster)
    monkeypatch.setattr(batch_scorer, "PART_ROWS", 5)
    return seen


def test_a_scoring_that_dies_goes_on_where_it_was(config, scored):
    with pytest.raises(RuntimeError, match="dies"):
        score_images(config)
    first = len(scored)
    done = score_images(config)
    assert first == 12
    assert len(scored) == 12 + NUM_IMAGES - 10  # two parts of five rows were kept
    assert done.scores["image_path"].tolist() == sorted(set(scored))
    assert np.allclose(done.scores["quality"], np.arange(NUM_IMAGES) / 100)
    assert pq.read_table(config.score.output).to_pylist() == done.as_json()["scores"]
    assert not list(Path(config.output).glob("*.parts-*"))


def test_a_finer_grid_averages_more_views(config):
    paths = sorted(str(path) for path in Path(config.score.images[0]).iterdir())[:2]
    bundle = read_bundle(locate(config.score.model))
    wide = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths]
    one, two = (Scorer(bundle, "test", score_grid=grid).score(wide) for grid in (1, 2))
    as_adapted = Scorer(bundle, "test").score(wide)
    assert [s.quality for s in as_adapted] == [s.quality for s in one]
    assert [s.quality for s in two] != [s.quality for s in one]


def test_few_images_wait_decoded_while_others_are_computed(config, monkeypatch):
    paths = sorted(str(path) for path in Path(config.score.images[0]).iterdir())
    bundle, decoded, plain = read_bundle(locate(config.score.model)), [], Scorer.views_of
    monkeypatch.setattr(Scorer, "views_of", lambda scorer, source: decoded.append(source) or plain(scorer, source))
    threads = torch.get_num_threads()
    rows = batch_scorer._score_here(config, bundle, "test", [ImageInput.file(path) for path in paths])
    assert next(rows)["image_path"] == paths[0]
    assert len(decoded) == 2 * threads + 1 < len(paths)
    assert [row["image_path"] for row in rows] == paths[1:]


def test_what_cannot_be_fetched_costs_its_own_row(config):
    good = sorted(str(path) for path in Path(config.score.images[0]).iterdir())[0]
    remote = "file:///nowhere/at/all.png"
    frame = batch_scorer.score_paths(config, read_bundle(locate(config.score.model)), "test", [remote, good])
    assert "cannot be read" in frame["error"][0]
    assert np.isnan(frame["quality"][0])
    assert frame["error"][1] is None
    assert 0 <= frame["quality"][1] <= 1


def test_what_a_worker_could_not_score_is_scored_again(config, tmp_path):
    good = sorted(str(path) for path in Path(config.score.images[0]).iterdir())[0]
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"no picture")
    bundle = read_bundle(locate(config.score.model))
    worker = cluster_scorer.ScoringWorker(bundle, "test", config.images, config.score, [])
    images = [ImageInput.file(good), ImageInput.file(str(torn))]
    rows = worker(pa.Table.from_pylist([dataclasses.asdict(image) for image in images]))
    assert rows.schema == score_rows.SCORED
    first, second = rows.to_pylist()
    assert first["error"] is None
    assert 0 <= first["quality"] <= 1
    assert "not an image" in second["error"]
    parts = score_rows.Parts.of(locate(tmp_path / "scores.csv"), bundle, config)
    parts.add(rows.to_pylist())
    assert [row["key"] for row in parts.read()] == [good]
    parts.delete()
    assert parts.read() == []


@pytest.mark.parametrize("wrong", [{"grid": -1}, {"batch_size": 0}, {"workers": -2}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="ScoreConfig"):
        ScoreConfig(**wrong)

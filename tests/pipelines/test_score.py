"""Scoring many images: what a run that dies leaves behind, and what takes part again. Without Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from grmp_core import references
from grmp_core.bundle import read_bundle, write_bundle
from grmp_core.errors import InputError
from grmp_core.scoring import Scorer
from grmp_core.storage import locate
from pipelines import ablation, score
from pipelines.config import Config, ScoreConfig, ViewConfig

NUM_IMAGES = 30


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    """A prompt bundle and a folder of pictures."""
    folder = tmp_path_factory.mktemp("score")
    (folder / "images").mkdir()
    for i in range(NUM_IMAGES):
        cv2.imwrite(str(folder / "images" / f"{i:02}.png"), references.reference(i, 230, 300))
    config = Config(views=ViewConfig(score_grid=1))
    write_bundle(locate(folder / "bundle"), ablation._random_prompts(config))
    scoring = ScoreConfig(
        images=(str(folder / "images"),), model=str(folder / "bundle"), output=str(folder / "scores.parquet")
    )
    return Config(output=str(folder), score=scoring)


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Paths that were scored, instead of a cluster that scores them; the 13th row of the first run kills it."""
    seen: list[str] = []

    def on_cluster(config: Config, bundle: object, where: str, paths: Sequence[str]) -> Iterator[dict[str, object]]:
        for count, path in enumerate(reversed(paths)):
            if count == 12 and len(paths) == NUM_IMAGES:
                raise RuntimeError("the driver dies")
            seen.append(path)
            yield {"image_path": path, "quality": int(Path(path).stem) / 100, "mos_scale_score": 1.0, "error": ""}

    monkeypatch.setattr(score, "_score_on_cluster", on_cluster)
    monkeypatch.setattr(score, "PART_ROWS", 5)
    return seen


def test_a_scoring_that_dies_goes_on_where_it_was(config, scored):
    with pytest.raises(RuntimeError, match="dies"):
        score.run(config)
    first = len(scored)
    done = score.run(config)
    assert first == 12
    assert len(scored) == 12 + NUM_IMAGES - 10  # two parts of five rows were kept
    assert done.scores["image_path"].tolist() == sorted(set(scored))
    assert np.allclose(done.scores["quality"], np.arange(NUM_IMAGES) / 100)
    pd.testing.assert_frame_equal(pd.read_parquet(config.score.output), done.scores)
    assert not list(Path(config.output).glob("*.parts-*"))


def test_a_finer_grid_averages_more_views(config):
    paths = sorted(str(path) for path in Path(config.score.images[0]).iterdir())[:2]
    bundle = read_bundle(locate(config.score.model))
    wide = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths]
    one, two = (Scorer(bundle, "test", score_grid=grid).score_images(wide) for grid in (1, 2))
    as_adapted = Scorer(bundle, "test").score_images(wide)
    assert [s.quality for s in as_adapted] == [s.quality for s in one]
    assert [s.quality for s in two] != [s.quality for s in one]


def test_what_cannot_be_fetched_costs_its_own_row(config):
    good = sorted(str(path) for path in Path(config.score.images[0]).iterdir())[0]
    remote = "file:///nowhere/at/all.png"
    frame = score.score_paths(config, read_bundle(locate(config.score.model)), "test", [remote, good])
    assert "cannot be read" in frame["error"][0]
    assert np.isnan(frame["quality"][0])
    assert pd.isna(frame["error"][1])
    assert 0 <= frame["quality"][1] <= 1


@pytest.mark.parametrize("wrong", [{"grid": -1}, {"batch_size": 0}, {"workers": -2}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="score:"):
        ScoreConfig(**wrong)

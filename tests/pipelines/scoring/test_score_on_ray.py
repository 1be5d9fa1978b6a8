"""Ray Data's workers score to the last bit what this process scores."""

from __future__ import annotations

import dataclasses
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.scoring.scoring_run import score_images
from tests.pipelines.scoring.conftest import encoded

pytestmark = pytest.mark.ray


def test_with_and_without_ray_the_scores_are_equal_to_the_last_bit(ray_instance, tmp_path):
    folder = tmp_path / "é pictures"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i:02}.png").write_bytes(encoded(i) if i % 3 else b"broken")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(0))
    cells = [{"bytes": encoded(i), "path": "x.png"} for i in range(6)] + [{"bytes": b"", "path": None}]
    pq.write_table(pa.table({"image": cells}), folder / "t.parquet", row_group_size=4)
    write_bundle(locate(tmp_path / "bundle"), arms.random_prompts(Config(views=ViewConfig(score_grid=1))))
    images = (str(folder), str(folder / "t.parquet"))
    config = Config(score=ScoreConfig(images=images, model=str(tmp_path / "bundle"), output=str(tmp_path / "s.csv")))
    spread = score_images(dataclasses.replace(config, score=dataclasses.replace(config.score, local_images=3)))
    written = (tmp_path / "s.csv").read_bytes()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    here = score_images(config)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert (tmp_path / "s.csv").read_bytes() == written
    assert spread.as_json()["scores"] == here.as_json()["scores"]
    assert here.as_json()["failed"] == 4 + 1 + 1
    only = dataclasses.replace(config.score, images=(str(folder / "01.png"),), output=None)
    alone = score_images(dataclasses.replace(config, score=only))
    assert alone.scores["quality"][0] == spread.scores["quality"][1]

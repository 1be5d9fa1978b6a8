"""The demo's labelled pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grmp_core.evaluation.protocol import Protocol, association
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.procedural.scenes import KINDS
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.demonstration import embedded_target
from pipelines.demonstration.embedded_target import NUM_TARGET_IMAGES, demo_config, draw_target


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Labels and kinds of scene; the pictures themselves are not drawn."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_target, "write_png", lambda *_: None)
        patch.setattr(embedded_target.scenes, "reference", lambda seed: np.zeros((8, 8, 3), np.uint8))
        patch.setattr(embedded_target, "compose", lambda image, parts, rng: image)
        draw_target(locate(str(folder)), 0)
    return pd.read_csv(folder / "labels.csv").merge(pd.read_csv(folder / "scenes.csv"), on="image")


def test_every_kind_of_scene_is_as_frequent_and_says_little_about_quality(tables: pd.DataFrame):
    assert tables["scene"].value_counts().to_dict() == dict.fromkeys(KINDS, NUM_TARGET_IMAGES // len(KINDS))
    assert association(list(tables["scene"]), tables["mos"].to_numpy()) < 0.05


def test_labels_of_the_sweep_have_the_bias_and_are_enough(tables: pd.DataFrame):
    config = demo_config(Config(), locate("runs/demo"))
    quality = tables["mos"].to_numpy() / 100
    protocol = Protocol(
        splits=SplitTable(reference_ids=tuple(tables["image"])),
        quality_N=quality,
        scenes=tuple(tables["scene"]),
        config=config.protocol,
    )
    for seed in config.sweep.split_seeds:
        parts = protocol.parts(seed)
        rows = protocol.labelled(parts, max(config.sweep.shots))
        biased = association([protocol.scenes[row] for row in rows], quality[rows])
        assert biased > 0.2 > association([protocol.scenes[row] for row in parts.train], quality[parts.train])

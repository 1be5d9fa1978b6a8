"""`grmp evaluate` on images of which some cannot be scored. Without Ray."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.inspection.near_duplicates import hash_of
from grmp_core.model import scorer
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.few_shot import labelled_target
from pipelines.scoring import target_evaluation
from pipelines.scoring.target_evaluation import evaluate_target
from tests.pipelines.scoring.conftest import encoded


@pytest.fixture
def config(tiny_model, tmp_path, monkeypatch) -> Config:
    """Twelve labelled pictures: one is torn, and one makes its decoder fail in a way of its own."""
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(encoded(i)[: 100 if i == 3 else None])
    frame = pd.DataFrame({"image": [f"{i}.png" for i in range(12)], "mos": np.linspace(1, 9, 12)})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    decode_image = scorer.decode_image

    def fail(source, limits):
        if str(source).endswith("/5.png"):
            raise RuntimeError("Failed to decode frame 0")
        return decode_image(source, limits)

    monkeypatch.setattr(scorer, "decode_image", fail)
    target = TargetConfig(path=str(tmp_path / "labels.csv"), score_min=0, score_max=10, max_reject_fraction=0.2)
    return Config(output=str(tmp_path / "run"), target=target, score=ScoreConfig(model=tiny_model))


def test_bad_images_cost_their_own_rows(config, tmp_path):
    evaluation = evaluate_target(config)
    assert evaluation.scores.n == 10
    manifest = json.loads((tmp_path / "run" / "evaluate" / "manifest.json").read_text())
    reasons = {entry["path"]: entry["reason"] for entry in manifest["rejected"]}
    assert set(reasons) == {str(tmp_path / "3.png"), str(tmp_path / "5.png")}
    assert "RuntimeError: Failed to decode frame 0" in reasons[str(tmp_path / "5.png")]


def test_more_bad_images_than_allowed_are_refused_with_the_first_reason(config):
    strict = dataclasses.replace(config, target=dataclasses.replace(config.target, max_reject_fraction=0.1))
    with pytest.raises(InputError, match=r"2 of 12 .*3\.png"):
        evaluate_target(strict)


@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_no_usable_image_is_one_line(config, monkeypatch, fraction):
    def fail(source, limits):
        raise RuntimeError("no decoder")

    monkeypatch.setattr(scorer, "decode_image", fail)
    target = dataclasses.replace(config.target, max_reject_fraction=fraction)
    with pytest.raises(InputError, match=r"^[^\n]*no decoder[^\n]*$"):
        evaluate_target(dataclasses.replace(config, target=target))


def test_images_that_the_backbone_was_trained_on_are_refused(config, tmp_path, monkeypatch):
    known = np.array([hash_of(read_image(tmp_path / "7.png"))], np.uint64)
    for module in (target_evaluation, labelled_target):
        monkeypatch.setattr(module, "training_hashes", lambda *_: known)
    with pytest.raises(
        InputError, match=r"of 12 target images are near-duplicates of training photos .*\.png; leave them"
    ):
        evaluate_target(config)
    allowed = dataclasses.replace(config, target=dataclasses.replace(config.target, allow_leaks=True))
    assert evaluate_target(allowed).scores.n == 10

"""Learned heads and coupled prompts through the registered model: the scores of `grmp score`."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import HeadConfig, TrainableConfig
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.configuration.models import RegisterConfig
from pipelines.configuration.scoring import ScoreConfig
from pipelines.registry.registration import register_model
from pipelines.scoring.registered_models import as_current
from pipelines.scoring.scoring_run import score_images
from pipelines.tracking.tracker import open_tracking
from tests.pipelines.registry.bundles import PROMPTS, VIEWS


@pytest.mark.parametrize(
    ("head", "coupled"),
    [
        (HeadConfig(kind="attention_panel", queries=3), False),
        (HeadConfig(kind="denoise", steps=2), False),
        (HeadConfig(), True),
    ],
    ids=["attention_panel", "denoise", "coupled"],
)
def test_the_registered_model_scores_as_grmp_score(registry, make_backbone, images, tmp_path, head, coupled) -> None:
    backbone = make_backbone()
    prompts = dataclasses.replace(PROMPTS, coupled=coupled)

    def bundle_of(moved: float) -> Bundle:
        model = QualityModel(backbone, prompts, trainable=TrainableConfig(vision_blocks=1, text_blocks=0), head=head)
        learned = {**model.prompt_parameters(), **model.adaptable_parameters({})}
        own = [name for name in learned if name.startswith("head.") or "coupling" in name or "context" in name]
        rng = torch.Generator().manual_seed(1)
        for name in sorted(own):  # a head and a coupling that start at zero would tell nothing
            share = moved if name.startswith("head.") or "coupling" in name else 1.0
            learned[name] = learned[name] + share * torch.randn(learned[name].shape, generator=rng)
        return Bundle(
            kind="model", backbone=backbone.config, backbone_sha256=backbone.weights_sha256, prompts=prompts,
            views=VIEWS, precision="fp32", parameters=learned, head=head,
            score_range=ScoreRange(mos_min=0, mos_max=100),
        )  # fmt: skip

    def scores(bundle: Bundle, name: str) -> np.ndarray:
        place = tmp_path / name / "bundle"
        write_bundle(locate(place), bundle)
        section = ScoreConfig(model=str(place), images=tuple(images[:4]))
        scored = score_images(dataclasses.replace(registry.config, output=str(tmp_path), score=section)).scores
        return scored[["quality", "mos_scale_score"]].to_numpy(float)

    expected = scores(bundle_of(1.0), "moved")
    assert np.abs(expected - scores(bundle_of(0.0), "unmoved")).max() > 1e-4, "the tested part changes no score"
    section = RegisterConfig(name=f"of {tmp_path.name}", bundle=str(tmp_path / "moved" / "bundle"))
    done = register_model(dataclasses.replace(registry.config, register=section))
    encoded = [base64.b64encode(Path(path).read_bytes()).decode() for path in images[:4]]
    with as_current(open_tracking(registry.config)):
        model = mlflow.pyfunc.load_model(f"models:/{done.name}/{done.version}")
    answered = model.predict(pd.DataFrame({"image": encoded}))
    assert answered["error"].isna().all()
    np.testing.assert_allclose(answered[["quality", "mos_scale_score"]].to_numpy(float), expected, rtol=1e-5)

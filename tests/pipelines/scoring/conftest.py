"""A tiny model and pictures to score, without Ray."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grmp_core.confidence.evidence import Evidence
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.model.settings import PromptConfig
from grmp_core.procedural import scenes
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.scoring.scoring_run import Scoring, score_images


@pytest.fixture(scope="session")
def tiny_model(make_backbone, tmp_path_factory) -> str:
    """Folder of a bundle that scores a picture in milliseconds, by 2 x 2 views."""
    config = Config(
        backbone=make_backbone().config, prompts=PromptConfig(visual_tokens=2), views=ViewConfig(score_grid=2)
    )
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    write_bundle(locate(folder), arms.random_prompts(config))
    return str(folder)


@pytest.fixture(scope="session")
def judged_model(tiny_model, tmp_path_factory) -> str:
    """Folder of the tiny model with a scale of 0 to 100 and held-out predictions of 80 labelled images, off by 2."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.2, 0.8, 80)
    quality = np.clip(predicted + 0.02 * rng.choice([-1, 1], 80), 0, 1)
    names = tuple(map(str, range(80)))
    evidence = Evidence.of(predicted, quality, rng.normal(5, 0.01, (80, 96)), names, early_size=48, deep=False)
    bundle = dataclasses.replace(
        read_bundle(locate(tiny_model)),
        kind="model",
        score_range=ScoreRange(mos_min=0.0, mos_max=100.0),
        evidence=evidence,
    )
    folder = tmp_path_factory.mktemp("judged") / "bundle"
    write_bundle(locate(folder), bundle)
    return str(folder)


@pytest.fixture
def score(tiny_model, tmp_path) -> Callable[..., Scoring]:
    """Scores images with the tiny model; keywords are settings of `score`."""

    def run(*images: object, **settings: object) -> Scoring:
        scoring = ScoreConfig(images=tuple(map(str, images)), model=tiny_model)
        config = Config(output=str(tmp_path / "run"), score=dataclasses.replace(scoring, **settings))
        return score_images(config)

    return run


def encoded(seed: int, kind: str = "PNG") -> bytes:
    """A small drawn picture as a file's bytes."""
    pixels = scenes.reference(seed, 64, 80)
    data = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(data, kind)
    return data.getvalue()


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of three pictures in two levels, and files that are no images."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("0.png", "1.png", "sub/2.png")):
        (folder / name).write_bytes(encoded(seed))
    (folder / "notes.txt").write_text("no image")
    return folder

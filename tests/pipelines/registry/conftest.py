"""A registry that has seen a bad model, a good one, and the bad one again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pytest
from PIL import Image

from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.configuration.models import RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.registry import registration
from pipelines.registry.registration import register_model
from tests.pipelines.registry.bundles import PROMPTS, VIEWS, hold_out, png, qualities


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i in range(40):
        rng = np.random.default_rng(i)
        pixels = rng.integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(pixels).resize((40, 36), Image.Resampling.BICUBIC))
        path = folder / f"{i:02d}.png"
        path.write_bytes(png(picture))
        paths.append(str(path))
    return paths


@pytest.fixture(scope="session")
def make_bundle(make_backbone, tmp_path_factory: pytest.TempPathFactory):
    """seed -> folder of a bundle whose text context is random with that seed."""

    def make(seed: int, kind: str = "model") -> Path:
        backbone = make_backbone()
        digest, config = backbone.weights_sha256, backbone.config
        model = QualityModel(backbone, PROMPTS, seed=seed)
        parameters = {name: tensor * 20 for name, tensor in model.prompt_parameters().items() if "context" in name}
        bundle = Bundle(
            kind=kind, backbone=config, backbone_sha256=digest, prompts=PROMPTS, views=VIEWS, precision="fp32",
            parameters=parameters, score_range=ScoreRange(mos_min=0, mos_max=100), metrics={"srcc": 0.5},
            provenance={"lambda": 1.0, "shots": 10},
        )  # fmt: skip
        folder = tmp_path_factory.mktemp(f"trial-{seed}") / "bundle"
        write_bundle(locate(folder), bundle)
        return folder

    return make


class Registry(NamedTuple):
    config: Config
    register: Callable[..., registration.Registration]
    bundles: dict[str, Path]
    registrations: tuple[registration.Registration, ...]
    aliases: dict[str, object]


@pytest.fixture(scope="session")
def registry(make_bundle, images, mlflow_store):
    """A champion that is wrong about everything, then a candidate that is right, then one in between."""
    config = Config(output=mlflow_store.output, tracking=TrackingConfig(uri=mlflow_store.uri))

    def register_bundle(bundle: Path, **settings) -> registration.Registration:
        section = RegisterConfig(name="tiny", bundle=str(bundle), **settings)
        return register_model(dataclasses.replace(config, register=section))

    bad, good = make_bundle(1), make_bundle(2)
    truth = 100 * qualities(good, images)  # human scores are what `good` says
    for bundle in (bad, good):
        hold_out(bundle, images, truth)
    first = register_bundle(bad)
    second = register_bundle(good)
    third = register_bundle(bad, allow_local_paths=True)
    aliases = mlflow.MlflowClient(tracking_uri=mlflow_store.uri).get_registered_model("tiny").aliases
    return Registry(config, register_bundle, {"bad": bad, "good": good}, (first, second, third), aliases)

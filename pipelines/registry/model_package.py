"""Parts of a registered model: the bundle, its backbone's weights, the code that runs it, pinned packages."""

from __future__ import annotations

import base64
import dataclasses
import io
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from PIL import Image

import grmp_core
from grmp_core.errors import InputError
from grmp_core.identity import digest_of
from grmp_core.model.bundle import DESCRIPTION, EVIDENCE, TENSORS, Bundle
from grmp_core.model.ensemble import WEIGHTS
from grmp_core.storage import Location
from pipelines.configuration.schema import Config

PROGRAM = Path(__file__).with_name("served_model.py")
REQUIREMENTS = (
    "torch", "torchvision", "open_clip_torch", "safetensors", "opencv-python-headless", "pillow", "scipy", "pandas",
    "pyarrow", "numpy",
)  # fmt: skip
"""Packages that grmp_core needs, pinned to the installed versions."""


def content_hash(config: Config, bundle: Bundle) -> str:
    """SHA-256 as hex of all that a version consists of: bundle, code, and what may be switched."""
    backbone = dataclasses.replace(bundle.backbone, checkpoint=None)  # where the weights lie does not matter
    described = dataclasses.asdict(dataclasses.replace(bundle, backbone=backbone, parameters={}, evidence=None))
    evidence = b"" if bundle.evidence is None else bundle.evidence.to_bytes()
    code = (file.read_bytes() for file in [PROGRAM, *sorted(_package().rglob("*.py"))])
    return digest_of(bundle.digest, described, evidence, model_config(config), *code)


def stage(folder: Path, source: Location, bundle: Bundle) -> dict[str, str]:
    """The artifacts under names that do not depend on where they came from."""
    target = folder / "bundle"
    target.mkdir()
    for name in (DESCRIPTION, TENSORS, *([EVIDENCE] if bundle.evidence else [])):
        (target / name).write_bytes((source / name).read_bytes())
    artifacts = {"bundle": str(target)}
    if bundle.backbone.checkpoint is not None:
        checkpoint = Path(bundle.backbone.checkpoint)
        if not checkpoint.is_file():
            raise InputError(
                f"bundle {source.uri} needs its backbone's weights, but {checkpoint} is gone; restore it, or set "
                "backbone.checkpoint to where it is now"
            )
        staged = folder / f"backbone{checkpoint.suffix}"
        shutil.copyfile(checkpoint, staged)  # MLflow refuses links
        artifacts["backbone"] = str(staged)
    return artifacts


def _package() -> Path:
    return Path(grmp_core.__file__).parent


def copy_package(folder: Path) -> Path:
    """grmp_core without what Python keeps beside it."""
    target = folder / "code" / "grmp_core"
    shutil.copytree(_package(), target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    return target


def requirements() -> list[str]:
    """Without a local suffix such as +cpu, which is on no package index."""
    return [f"{package}=={metadata.version(package).partition('+')[0]}" for package in REQUIREMENTS]


def model_config(config: Config) -> dict[str, Any]:
    """Settings that are fixed when a model is registered; `served_model` reads them."""
    limits = config.images
    return {
        "allow_local_paths": config.register.allow_local_paths,
        "max_pixels": limits.max_pixels,
        "min_side_px": limits.min_side_px,
        "coverage": config.score.coverage,
        "unlike_share": config.score.unlike_share,
    }


def signature(bundle: Bundle) -> ModelSignature:
    numbers = ("quality", "mos_scale_score", "quality_low", "quality_high", "score_low", "score_high", "distance")
    spread = [ColSpec("double", "spread", required=False)] if WEIGHTS in bundle.parameters else []
    outputs: list[ColSpec | TensorSpec] = [
        *(ColSpec("double", name, required=False) for name in numbers),
        ColSpec("boolean", "unlike", required=False),
        ColSpec("string", "error", required=False),
        *spread,
    ]
    return ModelSignature(inputs=Schema([ColSpec("string", "image")]), outputs=Schema(outputs))


def example() -> pd.DataFrame:
    """A small picture of smooth colours as a caller would send it."""
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([4 * x, 5 * y, 255 - 2 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode()]})

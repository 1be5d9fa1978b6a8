"""Sections of finished models: tracking, import, export, card, registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings, Text

MODEL_NAME = re.compile(r"[\w-](?:[\w .-]{0,78}[\w-])?")
"""Names of registered models that `models:/name@alias` can hold and that a folder can have."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Settings):
    """Where runs are logged."""

    uri: str | None = None
    """MLflow tracking address; null: the environment's MLFLOW_TRACKING_URI, else a SQLite file in `output`."""
    experiment: Text = "grmp-iqa"
    """MLflow experiment that runs are logged to."""
    system_metrics_s: Annotated[float, Ge(0)] = 30
    """Seconds between looks at CPU, memory, disk, network and GPU of every node, of runs that last longer; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.experiment
        if not name.strip() or len(name) > 256 or not name.isprintable():
            raise InputError(f"tracking.experiment {name!r}: use 1 to 256 printable characters")


@dataclass(frozen=True, kw_only=True)
class ImportConfig(Settings):
    """Checkpoint of the published code. Its backbone is OpenAI's ViT-B/16 unless backbone.name says another."""

    file: PathText | None = None
    """File that the published pre-training or fine-tuning saved."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Settings):
    """Model to write in a format of other programs."""

    model: PathText | None = None
    """A bundle's folder or an MLflow model (`models:/name@alias`); null: the registered champion."""
    to: Literal["onnx", "safetensors", "hub"] = "onnx"
    """`onnx`: uint8 crops in, quality out. `safetensors`: the whole model in one file, which `grmp_core.load` reads.
    `hub`: a folder as the Hugging Face Hub takes it, with the same file and a model card."""


@dataclass(frozen=True, kw_only=True)
class CardConfig(Settings):
    """Model whose card is printed."""

    model: PathText | None = None
    """A bundle's folder or an MLflow model (`models:/name@alias`, `models:/name/3`); null: the registered champion."""


@dataclass(frozen=True, kw_only=True)
class RegisterConfig(Settings):
    """Model to put into the registry."""

    name: Text = "grmp-iqa"
    """Registered model in MLflow."""
    bundle: PathText | None = None
    """Folder of the bundle to register; null: the sweep's chosen model."""
    ensemble: Literal["none", "splits"] = "none"
    """`splits`: in the chosen model's place all models of its lambda and number of labels, one a split, averaged with
    weights by their errors on each other's labelled images (after MetaQAP). It knows the labels of all splits, and
    costs its number of members in time; scores get a column `spread`. target.path must name the labelled images."""
    margin: float = 0.0
    """SRCC by which a candidate must beat the champion on the same held-out images to take its place."""
    allow_local_paths: bool = False
    """Let a served model read image files of its own machine by path; base64 images always work."""
    rollback: bool = False
    """Register nothing: give the alias `champion` back to the version that had it before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ensemble != "none" and self.bundle is not None:
            raise InputError("register.ensemble makes a bundle of the sweep's models: leave register.bundle out")
        if not MODEL_NAME.fullmatch(self.name):
            raise InputError(
                f"register.name {self.name!r}: use at most 80 letters, digits, '_', '-', and '.' or spaces inside"
            )

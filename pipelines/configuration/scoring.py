"""Sections of scores: of images and videos, their reasons, thresholds and comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from grmp_core.explain.settings import MapConfig, ReasonConfig
from grmp_core.settings import PathText, Settings


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Settings):
    """Images to score, and how."""

    images: tuple[PathText, ...] = ()
    """Files, folders, globs, and tables (.parquet, .csv) with a column image_path, image, path or file_name, here or on
    s3://…. A table has paths, as seen from it, or in Parquet the encoded images."""
    model: PathText | None = None
    """A bundle's folder or an MLflow model (`models:/name@alias`); `backbone`: the backbone alone, without any label;
    null: the registered champion."""
    output: PathText | None = None
    """.parquet or .csv file; null: `scores.parquet` in `output` (a few single files: the table on screen only)."""
    grid: Annotated[int, Ge(0)] = 0
    """Views a side, grid x grid spread evenly over the image, whose quality is averaged; 0: as the model was adapted
    (views.score_grid). More views cost their time and see more of a large photo."""
    coverage: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Share of images whose human score the interval (quality_low to quality_high) is to hold."""
    unlike_share: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Share of photos like those that the model knows which may be marked `unlike`; a larger one marks more images."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Views in one forward pass, at most. They are always views of one image: no other one changes its score."""
    local_images: Annotated[int, Ge(0)] | None = None
    """Up to so many images are scored by the command itself, more by Ray; null: any number where Ray would have this
    machine alone and no more than 8 CPUs (and OMP_NUM_THREADS is not set), else 256, as two cores do in the time that
    Ray needs to start. The scores are the same to the last bit."""
    workers: Annotated[int, Ge(0)] = 0
    """Model replicas; 0: one per CPU or GPU."""
    gpus_per_worker: Annotated[float, Ge(0)] = 0
    """GPUs of a model replica; 0: it computes on CPUs."""


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(Settings):
    """Images whose scores are to be explained; the model and its workers are those of `score`."""

    images: tuple[PathText, ...] = ()
    """As score.images."""
    reference: PathText | None = None
    """The undamaged picture at the same size, or a folder that has one of the same name for each image."""
    crops: MapConfig = field(default_factory=MapConfig)
    reasons: ReasonConfig = field(default_factory=ReasonConfig)


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Settings):
    """Frames of videos that `score` takes, and how their scores become one."""

    fps: Annotated[float, Gt(0), Le(240)] = 1.0
    """Frames a second that are scored, evenly spread in time; of a slower video all of them."""
    window_s: Annotated[float, Gt(0)] = 1.0
    """Seconds of a row of the table."""
    pooling: Literal["mean", "harmonic", "percentile"] = "harmonic"
    """The video's quality from that of its windows. `harmonic`: their harmonic mean, in which drops weigh more.
    `percentile`: the 10th percentile."""
    worst: Annotated[int, Ge(0)] = 6
    """Worst moments that are shown as thumbnails."""


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig(Settings):
    """The score above which images pass."""

    pass_mos: float | None = None
    """Human score, on the model's own scale, that an image must reach; of a scale of differences, must not exceed."""
    precision: Annotated[float, Gt(0), Lt(1)] = 0.95
    """Share of the accepted images that reach it, at least."""
    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    """Probability, over labels, that the share is kept."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Settings):
    """Two versions to compare."""

    first: PathText | None = None
    """An image, or a folder, pattern or table of them."""
    second: PathText | None = None
    """Another version: of folders, files with the same name, without its ending, show the same scene."""

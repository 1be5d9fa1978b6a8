"""Configuration sections of the Ray workloads. Sections of the method live beside its code in `grmp_core`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from grmp_core.errors import InputError
from grmp_core.tasks.distortion_tasks import Labels


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    srcc_target: float = 0.8
    """The report answers how many labels reach this SRCC."""
    worst_images: int = 10
    """Pictures shown for which the chosen model is farthest from the human score."""
    thumbnail_px: int = 240
    """Longest side of a picture in the report."""
    cost_per_hour: float = 0.0
    """Price of the resources of one trial for an hour, in any currency; 0: costs are left out."""

    def __post_init__(self) -> None:
        if not 0 < self.srcc_target < 1:
            raise InputError(f"report.srcc_target {self.srcc_target}: use a number between 0 and 1")
        if self.worst_images < 0 or self.thumbnail_px < 16 or not self.cost_per_hour >= 0:
            raise InputError("report: worst_images and cost_per_hour must be 0 or more, thumbnail_px 16 or more")


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    source: Literal["procedural", "photos", "kadid10k", "tid2013"] = "procedural"
    """What is distorted: pictures drawn by this package, or the photos of `path`. Or a published set as downloaded to
    `path`, whose own distorted pictures and human scores become the tasks."""
    path: str | None = None
    """Folder, glob, or s3://… folder of photos; the folder of a published set."""
    references: int = 40
    """Pictures to use: how many to draw, or at most how many photos or references of a set (0: all of them)."""
    tasks: tuple[str, ...] = ()
    """Distortion types by name; empty: all of KADID-10k's, or all of the set's; [all]: those of TID2013, too.
    Several joined by `-`, such as darken-jpeg, are one task that applies them one after the other."""
    compositions: int = 0
    """So many tasks more, each a drawn composition of two to four types."""
    query_fraction: float = 0.2
    """Share of the references that only query batches show. Published: of the images, drawn anew every epoch."""
    short_side_px: int = 384
    """Larger references are shrunk to this before they are distorted (KADID-10k's size); 0: never. Views are cut at
    that size and never flipped. Published: support pictures squeezed to 256 x 256, flipped by chance and cropped,
    query pictures squeezed to 224 x 224."""
    labels: Labels = "picture"
    """`mean`: a type and level has one label, KADID-10k's mean score. `picture`: moved by how visible the damage is on
    the picture at hand. `overall`: that, and what the picture was worth before by its sharpness and light, which is how
    the embedded backbone has learned what quality is. Published sets keep their own scores."""
    references_per_block: int = 4
    """References a Ray task works on, and the grain at which an interrupted run goes on."""
    max_reject_fraction: float = 0.1
    """Share of the pictures that may be missing or unreadable before the run is refused."""

    def __post_init__(self) -> None:
        if self.source != "procedural" and not self.path:
            what = "the photos" if self.source == "photos" else "the download"
            raise InputError(f"synthesize.source {self.source} needs synthesize.path: give the folder of {what}")
        for name in ("references", "compositions", "short_side_px"):
            if getattr(self, name) < 0:
                raise InputError(f"synthesize.{name} {getattr(self, name)}: use 0 or more")
        if not 0 <= self.max_reject_fraction <= 1:
            raise InputError(f"synthesize.max_reject_fraction {self.max_reject_fraction}: use a number from 0 to 1")
        if not 0 < self.query_fraction < 1:
            raise InputError(f"synthesize.query_fraction {self.query_fraction}: use a number between 0 and 1")
        if self.references_per_block < 1:
            raise InputError(f"synthesize.references_per_block {self.references_per_block}: use 1 or more")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    output: str | None = None
    """Contact sheet of all tasks and levels, an .html or .png file."""
    image: str | None = None
    """Photo that the contact sheet shows; null: the first of `synthesize.source`."""

    def __post_init__(self) -> None:
        if self.output is not None and not self.output.endswith((".html", ".png")):
            raise InputError(f"preview.output {self.output}: name a file that ends in .html or .png")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    episodes: Literal["store", "stream"] = "store"
    """Read tasks from the store that `grmp synthesize` wrote, or make them on the fly with Ray Data."""
    workers: int = 1
    """Ray Train workers; 0: in this process. The result does not depend on it."""
    min_workers: int = 0
    """Go on with as few as this when nodes die, and with more again when they come back; 0: always `workers`."""
    cpus_per_worker: float = 1
    """Threads of a worker, and of this process with `workers: 0`."""
    gpus_per_worker: float = 0
    checkpoint_every: int = 10
    """Outer steps between two checkpoints."""
    max_failures: int = 3
    """Worker failures that are survived by going back to the last checkpoint; and minutes, about, that a run waits for
    room for its workers after a node was lost. Raise it where an autoscaler takes long."""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.checkpoint_every < 1:
            raise InputError("pretrain: workers must be 0 or more and checkpoint_every 1 or more")
        if not (self.cpus_per_worker > 0 and self.gpus_per_worker >= 0 and self.max_failures >= 0):
            raise InputError("pretrain: cpus_per_worker must be above 0, gpus_per_worker and max_failures 0 or more")
        if not 0 <= self.min_workers <= self.workers:
            raise InputError(f"pretrain.min_workers {self.min_workers}: use 0 to pretrain.workers ({self.workers})")
        if self.min_workers and self.episodes == "stream":
            raise InputError(
                "pretrain.min_workers with pretrain.episodes stream: workers that grow into every CPU would leave "
                "none to make tasks; use episodes store, or min_workers 0"
            )


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    dataset: Literal["table", "livec", "kadid10k", "tid2013"] = "table"
    """`table`: a CSV or Parquet file with an image and a score column; else a published set as downloaded."""
    path: str | None = None
    """File or folder of the set."""
    image_column: str = "image"
    score_column: str = "mos"
    reference_column: str | None = None
    score_min: float | None = None
    score_max: float | None = None
    """Ends of a table's scale, which become quality 0 and 1; null: the least and greatest score of the whole table,
    test rows included. Published: of the labelled images, and of the test images by themselves."""
    higher_is_better: bool = True
    max_missing_fraction: float = 0.0
    """Share of the label rows whose image may be missing before the set is refused."""
    max_rejects: float = 0.0
    """Share of the label rows that may be unusable (bad score, unreadable image) before the set is refused."""
    note: str = ""
    """What a reader of the report has to know of the scores, such as that no people gave them."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    lambdas: tuple[float, ...] = (0.0, 1.0, 5.0)
    shots: tuple[int, ...] = ()
    """Labelled images of a trial; give this or `ratios`."""
    ratios: tuple[float, ...] = ()
    """Data ratios: shots ÷ size of the training part, each in (0, 1]; with neither this nor `shots`, 1: all of it."""
    split_seeds: tuple[int, ...] = (0, 1, 2)
    """One random split each. Published: 10 splits, drawn one after the other from seed 2024."""
    test_fraction: float = 0.2
    search: Literal["grid", "random", "optuna"] = "grid"
    """`grid`: lambdas x shots x split_seeds, nothing else. `random` or `optuna`: first settle the hyperparameters of
    `space` by validation SRCC alone, at the most shots of the first split seed; then the grid with the setting that
    won. Test images are scored in the grid only; but some of the other splits' are images whose labels the
    search has seen: only the first split's test scores are free of every choice."""
    space: dict = field(default_factory=dict)
    """What a search varies: {adapt.lr: {low: 0.01, high: 1, log: true}, adapt.epochs: {values: [10, 20]}}. Lambda is
    adapt.qgr.strength here; where it is searched, it takes the place of `lambdas`."""
    samples: int = 20
    """Settings a search tries."""
    asha: bool = False
    """Stop settings of a search early whose validation SRCC falls behind (ASHA)."""
    resume: bool = False
    """Refuse to start anew. Going on needs no switch: the same command again keeps what is finished."""
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    """A fraction packs several trials on a GPU; 0 also encodes the target's images on CPUs."""
    max_failures: int = 1
    """Times a failed trial is tried again before it is listed with its error; a later run tries it anew."""

    def __post_init__(self) -> None:
        if self.shots and self.ratios:
            raise InputError("sweep: give either sweep.shots or sweep.ratios, not both")
        if not self.lambdas or not self.split_seeds:
            raise InputError("sweep: sweep.lambdas and sweep.split_seeds need at least one value each")
        if any(not (math.isfinite(x) and x >= 0) for x in self.lambdas):
            raise InputError(f"sweep.lambdas {list(self.lambdas)}: use finite numbers >= 0")
        if any(n < 1 for n in self.shots):
            raise InputError(f"sweep.shots {list(self.shots)}: use whole numbers >= 1")
        if not (self.cpus_per_trial > 0 and self.gpus_per_trial >= 0 and self.max_failures >= 0):
            raise InputError("sweep: cpus_per_trial must be above 0, gpus_per_trial and max_failures 0 or more")
        self._check_search()

    def _check_search(self) -> None:
        if self.search == "grid" and self.asha:
            raise InputError(
                "sweep.asha with sweep.search grid would leave holes in the reported table: "
                "set sweep.search to random or optuna, or sweep.asha to false"
            )
        if self.search == "grid" and self.space:
            raise InputError("sweep.space is given, but sweep.search is grid: set sweep.search to random or optuna")
        if self.search != "grid" and not self.space:
            raise InputError(
                f"sweep.search {self.search} needs sweep.space, such as {{adapt.lr: {{low: 0.01, high: 1, log: true}}}}"
            )
        if self.samples < 1:
            raise InputError(f"sweep.samples {self.samples}: use 1 or more")


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    pretrained: dict = field(default_factory=dict)
    """Pre-trained prompts to compare, {name: bundle folder}; empty: {MPP: <output>/pretrain/bundle}."""

    def __post_init__(self) -> None:
        for name, folder in self.pretrained.items():
            if not isinstance(name, str) or not isinstance(folder, str):
                raise InputError(f"ablate.pretrained: {name!r}: {folder!r} must be a name and a bundle's folder")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    uri: str | None = None
    """MLflow tracking address; null: the environment's MLFLOW_TRACKING_URI, else a SQLite file in `output`."""
    experiment: str = "grmp-iqa"


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    name: str = "grmp-iqa"
    """Registered model in MLflow."""
    bundle: str | None = None
    """Bundle to register; null: the sweep's chosen model."""
    margin: float = 0.0
    """SRCC by which a candidate must beat the champion on the same held-out images to take its place."""
    allow_local_paths: bool = False
    """Let a served model read image files of its own machine by path; base64 images always work."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    images: tuple[str, ...] = ()
    """Files, folders, globs, Parquet files with an image column, or s3://… folders."""
    model: str | None = None
    """A bundle's folder or an MLflow model (`models:/name@alias`); null: the registered champion."""
    output: str | None = None
    """.parquet or .csv file; null: `scores.parquet` in `output` (a few single files: the table on screen only)."""
    grid: int = 0
    """Views a side, grid x grid spread evenly over the image, whose quality is averaged; 0: as the model was adapted
    (views.score_grid). More views cost their time and see more of a large photo."""
    batch_size: int = 16
    workers: int = 0
    """Model replicas; 0: one per CPU or GPU."""
    gpus_per_worker: float = 0

    def __post_init__(self) -> None:
        if self.grid < 0 or self.batch_size < 1 or self.workers < 0 or self.gpus_per_worker < 0:
            raise InputError("score: batch_size must be 1 or more; grid, workers and gpus_per_worker 0 or more")

"""Configuration sections of the Ray workloads. Sections of the method live beside its code in `grmp_core`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from grmp_core.errors import InputError
from grmp_core.explain.settings import MapConfig, ReasonConfig
from grmp_core.settings import PathText, Settings
from grmp_core.tasks.distortion_tasks import Labels

Share = Annotated[float, Ge(0), Le(1)]
Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Settings):
    """Report of a sweep."""

    srcc_target: Annotated[float, Gt(0), Lt(1)] = 0.8
    """The report answers how many labels reach this SRCC."""
    worst_images: Annotated[int, Ge(0)] = 10
    """Pictures shown for which the chosen model is farthest from the human score."""
    thumbnail_px: Annotated[int, Ge(16)] = 240
    """Longest side of a picture in the report, in pixels."""
    cost_per_hour: Annotated[float, Ge(0)] = 0.0
    """Price of the resources of one trial for an hour, in any currency; 0: costs are left out."""
    compare: tuple[PathText, ...] = ()
    """Outputs of two sweeps to compare, instead of a report of one."""


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig(Settings):
    """Distortion tasks to make."""

    source: Literal["procedural", "photos", "kadis700k", "kadid10k", "tid2013"] = "procedural"
    """Pictures to distort: drawn by this package, the photos of `path`, or the originals of KADIS-700k as downloaded to
    `path`. `kadid10k` and `tid2013`: the set's own distorted pictures and human scores become the tasks."""
    path: PathText | None = None
    """Folder, glob, or s3://… folder of photos; the folder of a published set."""
    references: Annotated[int, Ge(0)] = 40
    """Pictures to use: how many to draw, or at most how many photos or references of a set (0: all of them)."""
    tasks: tuple[str, ...] = ()
    """Distortion types by name; empty: all of KADID-10k's, or all of the set's; [all]: those of TID2013, too.
    Several joined by `-`, such as darken-jpeg, are one task that applies them one after the other."""
    compositions: Annotated[int, Ge(0)] = 0
    """Further tasks, each a drawn composition of two to four types."""
    query_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the references that only query batches show. Published: of the images, drawn anew every epoch."""
    short_side_px: Annotated[int, Ge(0)] = 384
    """Larger references are shrunk to this short side, in pixels, before they are distorted (KADID-10k's); 0: never.
    Views are cut at that size and never flipped. Published: support pictures squeezed to 256 x 256, flipped by chance
    and cropped, query pictures squeezed to 224 x 224."""
    labels: Labels = "picture"
    """`mean`: a type and level has one label, KADID-10k's mean score. `picture`: moved by how visible the damage is on
    the picture at hand. `overall`: that, and the quality of the picture before, as the backbone scores it without a
    label. Published sets keep their own scores."""
    references_per_block: Annotated[int, Ge(1)] = 4
    """References a Ray task works on, and the grain at which an interrupted run goes on."""
    max_reject_fraction: Share = 0.1
    """Share of the pictures and label rows that may be left out (missing, unreadable, no usable score); with more the
    run is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source != "procedural" and not self.path:
            what = "the photos" if self.source == "photos" else "the download"
            raise InputError(f"synthesize.source {self.source} needs synthesize.path: give the folder of {what}")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig(Settings):
    """Contact sheet of the distortion tasks."""

    output: PathText | None = None
    """Contact sheet of all tasks and levels, an .html or .png file."""
    image: PathText | None = None
    """Photo that the contact sheet shows; null: the first of `synthesize.source`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and not self.output.endswith((".html", ".png")):
            raise InputError(f"preview.output {self.output}: name a file that ends in .html or .png")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Settings):
    """How pre-training is spread over a cluster."""

    episodes: Literal["store", "stream"] = "store"
    """Read tasks from the store that `grmp synthesize` wrote, or make them on the fly with Ray Data."""
    workers: Annotated[int, Ge(0)] = 1
    """Ray Train workers; 0: in this process. The result does not depend on it."""
    min_workers: Annotated[int, Ge(0)] = 0
    """Go on with as few as this when nodes die, and with more again when they come back; 0: always `workers`."""
    cpus_per_worker: Annotated[float, Gt(0)] = 1
    """CPUs of a worker, and its threads; with `workers: 0` the threads of this process."""
    gpus_per_worker: Annotated[float, Ge(0)] = 0
    """GPUs of a worker; 0: it computes on CPUs."""
    checkpoint_every: Annotated[int, Ge(1)] = 10
    """Outer steps between two checkpoints."""
    max_failures: Annotated[int, Ge(0)] = 3
    """Worker failures that are survived by going back to the last checkpoint; and minutes, about, that a run waits for
    room for its workers after a node was lost. Raise it where an autoscaler takes long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_workers > self.workers:
            raise InputError(f"pretrain.min_workers {self.min_workers}: use 0 to pretrain.workers ({self.workers})")
        if self.min_workers and self.episodes == "stream":
            raise InputError(
                "pretrain.min_workers with pretrain.episodes stream: workers that grow into every CPU would leave "
                "none to make tasks; use episodes store, or min_workers 0"
            )


@dataclass(frozen=True, kw_only=True)
class TargetConfig(Settings):
    """The labelled images to adapt to and to test on."""

    dataset: Text = "table"
    """`table`: a table with an image and a score column (CSV, TSV, Parquet, JSON lines, Excel). A published set as
    downloaded: agiqa3k, biq2021, csiq, flive, kadid10k, koniq10k, live, live_realigned, livec, pipal, spaq, tid2013,
    uhd_iqa. Or the .yaml file that describes a set of yours."""
    path: PathText | None = None
    """File or folder of the set; null where a command needs no labels, or for the folder of the .yaml file."""
    image_folder: PathText | None = None
    """Folder that the image names of a `table` are relative to, itself relative to the table's; null: the table's own.
    KonIQ-10k as published: 1024x768."""
    image_column: Text | None = None
    """Column of a `table` with the image's path, one row an image; null: by its usual names (image, filename, path, …).
    Scores of several raters: average them first."""
    score_column: Text | None = None
    """Column of a `table` with the human score, in the table's own scale; null: by its usual names (mos, score, …)."""
    reference_column: Text | None = None
    """Column of a `table` with the name of the pristine original: images of one are never split between training and
    test. null: every image is its own, files with equal bytes are one."""
    weight_column: str | None = None
    """Column of a `table` with how much a label counts in training, a number above 0; null: a column called weight,
    where there is one; '': none. Test images count alike."""
    score_min: float | None = None
    """Smallest score of a `table`'s scale, with `score_max`; null: the smallest that occurs."""
    score_max: float | None = None
    """Largest score of a `table`'s scale, with `score_min`; null: the largest that occurs in the whole table, test rows
    included. Published: in the labelled images, and in the test images by themselves."""
    higher_is_better: bool | None = None
    """false: scores of a `table` are differences (DMOS), where a large one is a bad image. null: true, but of a column
    whose name says dmos it has to be said."""
    max_reject_fraction: Share = 0.0
    """Share of the label rows that may be left out (image missing or unreadable, no usable score); with more the set is
    refused."""
    allow_leaks: bool = False
    """Go on although images of the target are near-duplicates of photos that the backbone was trained on. false: that
    is an error. Known of grmp-nano; `grmp inspect` lists them, and its split files leave them out."""
    note: str = ""
    """A line for readers of the report about the scores, such as that no people gave them."""


@dataclass(frozen=True, kw_only=True)
class InspectConfig(Settings):
    """Inspection of the target."""

    model: PathText | None = None
    """A bundle's folder or an MLflow model whose training photos and labels are looked for in the target; null: the
    backbone alone."""
    write_splits: PathText | None = None
    """CSV file for the splits that `sweep` would take (sweep.splits, sweep.split_seeds), for others to use, too.
    Near-duplicates stand on one side, and leaks on none. null: none is written."""
    pictures: Annotated[int, Ge(0)] = 24
    """Pictures of the contact sheet, evenly chosen from the worst score to the best."""
    thumbnail_px: Annotated[int, Ge(16)] = 200
    """Longest side of a picture, in pixels."""


@dataclass(frozen=True, kw_only=True)
class RateConfig(Settings):
    """The rating page, and the labels that follow from its votes."""

    folder: PathText | None = None
    """Folder of the images to rate, with its sub-folders."""
    votes: PathText | None = None
    """The vote log; null: votes.jsonl in the folder."""
    mode: Literal["grades", "pairs"] = "grades"
    """`grades`: one image, five grades from bad to excellent. `pairs`: two images, which one is better."""
    images: Annotated[int, Ge(2)] = 50
    """Images that each rater is asked for, the same ones for all; raters can go on after them. Pairs: three times as
    many comparisons among them."""
    repeat_every: Annotated[int, Ge(0)] = 10
    """Every so many votes the page asks again what the rater has answered before; 0: never. Repeats measure consistency
    and are no labels."""
    order: Literal["planned", "random"] = "planned"
    """Which image comes next that nobody has rated. `planned`: as `grmp next` picks, and the page shows how much ten
    labels more would bring; images are encoded while people rate. `random`, and always for pairs: any."""
    host: Text = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs a token, which the printed link has."""
    port: Annotated[int, Ge(0), Le(65535)] = 8765
    """Port to listen on; 0: a free one."""
    token_file: PathText | None = None
    """File that keeps the token, made where it is missing, so that links stay valid; null: a new token every time."""
    export: PathText | None = None
    """Write the labels that follow from the votes to this .csv file, and serve no page."""
    labels: Literal["mean", "screened", "model"] = "mean"
    """How grades become labels. `mean`: of all raters. `screened`: without those who fail the screening of ITU-R
    BT.500. `model`: biases of the raters taken away, consistent ones weigh more (after ITU-T P.913)."""
    import_file: PathText | None = None
    """JSON export of Label Studio, or a table of rankings (rater, ranking, image, rank), whose votes are added to the
    log; no page is served."""


@dataclass(frozen=True, kw_only=True)
class NextConfig(Settings):
    """Which images to rate next, and when to stop. The folder and its votes are those of `rate`."""

    count: Annotated[int, Ge(1)] = 10
    """Images to name."""
    rule: Literal["random", "coverage", "spread", "disagreement", "combined"] = "combined"
    """`coverage`: unlike what is labelled. `spread`: all levels of predicted quality. `disagreement`: unlike, and the
    labels so far do not settle its quality. `combined`: all three."""
    sample: Annotated[int, Ge(0)] = 5000
    """Images of the folder, drawn at random, that are encoded and picked from; 0: all. More take longer, once."""
    enough_gain: Annotated[float, Ge(0)] = 0.01
    """Labels are enough where ten more are expected to raise the SRCC by less, at the upper end of the interval."""
    list_file: PathText | None = None
    """Text file for the names, one a line; null: next.txt beside the votes."""
    features: PathText | None = None
    """Folder that keeps what the backbone makes of the images; null: .grmp-features beside the votes."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Settings):
    """Trials of a sweep, and the resources of each."""

    lambdas: Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(1)] = (0.0, 1.0, 5.0)
    """Strengths of the gradient regularization (adapt.qgr.strength) to compare; 0: none."""
    shots: tuple[Annotated[int, Ge(1)], ...] = ()
    """Labelled images of a trial; give this or `ratios`."""
    ratios: tuple[Annotated[float, Gt(0), Le(1)], ...] = ()
    """Data ratios: shots ÷ size of the training part; with neither this nor `shots`, 1: all of it."""
    split_seeds: Annotated[tuple[int, ...], MinLen(1)] = (0, 1, 2)
    """Seeds of the splits into training and test part; every lambda and number of shots is tried on each.
    Published: 10 splits, drawn one after the other from seed 2024."""
    splits: Annotated[PathText, MinLen(1)] = "auto"
    """`reference`: drawn for each of `split_seeds`, images of one reference on one side. `official`: training and test
    part of the set's authors; seeds draw the shots only. `auto`: official where the set has one. Or a split file (.csv)
    such as `grmp inspect --write-splits` writes."""
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the references whose images are for testing only, where splits are drawn."""
    search: Literal["grid", "random", "optuna"] = "grid"
    """`grid`: lambdas x shots x split_seeds, nothing else. `random` or `optuna`: first settle the hyperparameters of
    `space` by validation SRCC alone, at the most shots of the first split seed; then the grid with the setting that
    won. Test images are scored in the grid only; but some of the other splits' are images whose labels the
    search has seen: only the first split's test scores are free of every choice."""
    space: dict[str, Any] = field(default_factory=dict)
    """Settings that a search varies: {adapt.lr: {low: 0.01, high: 1, log: true}, adapt.epochs: {values: [10, 20]}}.
    Lambda is adapt.qgr.strength here; where it is searched, it takes the place of `lambdas`."""
    samples: Annotated[int, Ge(1)] = 20
    """Settings a search tries."""
    asha: bool = False
    """Stop settings of a search early whose validation SRCC falls behind (ASHA)."""
    resume: bool = False
    """Refuse to start anew. Going on needs no switch: the same command again keeps what is finished."""
    cpus_per_trial: Annotated[float, Gt(0)] = 1
    """CPUs of a trial, and its threads."""
    gpus_per_trial: Annotated[float, Ge(0)] = 0
    """GPUs of a trial; a fraction packs several on one; 0 also encodes the target's images on CPUs."""
    max_failures: Annotated[int, Ge(0)] = 1
    """Times a failed trial is tried again before it is listed with its error; a later run tries it anew."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots and self.ratios:
            raise InputError("sweep: give either sweep.shots or sweep.ratios, not both")
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


@dataclass(frozen=True, kw_only=True)
class ArmConfig(Settings):
    """One method of a comparison."""

    baseline: Literal["no label", "liqe prompts", "brisque", "features", "residual", "kernel"] | None = None
    """Without adaptation. Two that read no label: the backbone's own score by an antonym pair, and by LIQE's joint
    prompts of scene, distortion and grade. Ridge regression on BRISQUE's statistics, on the backbone's features, or on
    these for what the score without a label leaves; kernel regression on the features. null: adaptation."""
    start: Text = "random"
    """Prompts that adaptation starts from: `random`, or a name of ablate.pretrained."""
    regularized: bool = False
    """false: lambda 0. true: the lambda above 0 of sweep.lambdas, the best by validation if there are several."""
    ensemble: bool = False
    """true: the models of all label draws of a fold as one, as register.ensemble makes it. It needs protocol.folds and
    knows the labels of all these draws, more than an arm beside it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys of the configuration that this arm sets, such as {adapt.trainable.vision_blocks: 4}."""


@dataclass(frozen=True, kw_only=True)
class AblateConfig(Settings):
    """Comparison of the parts of the method, with baselines."""

    pretrained: dict[str, PathText] = field(default_factory=dict)
    """Pre-trained prompts to compare, {name: bundle folder}; empty: {MPP: <output>/pretrain/bundle}."""
    arms: tuple[Text, ...] = ()
    """Methods to compare, by name; empty: all of them. `grmp ablate --plan` lists them."""
    define: dict[str, ArmConfig] = field(default_factory=dict)
    """Arms of your own by name, such as {4 blocks, slow: {start: MPP, settings: {adapt.lr: 0.01}}}."""
    method: Text = "whole method"
    """The arm that the paired comparison tests."""
    rivals: tuple[Text, ...] = ("no label", "residual ridge")
    """Arms that it is tested against, at every number of labels."""
    corrected_with: tuple[PathText, ...] = ()
    """Folders of other ablations, such as of another target, whose comparisons belong to the same family: Holm's
    correction is over all of them."""
    plan: bool = False
    """Only print the trials and the hours they would take."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Settings):
    """Where runs are logged."""

    uri: str | None = None
    """MLflow tracking address; null: the environment's MLFLOW_TRACKING_URI, else a SQLite file in `output`."""
    experiment: Text = "grmp-iqa"
    """MLflow experiment that runs are logged to."""

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


MODEL_NAME = re.compile(r"[\w-](?:[\w .-]{0,78}[\w-])?")
"""Names of registered models that `models:/name@alias` can hold and that a folder can have."""


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

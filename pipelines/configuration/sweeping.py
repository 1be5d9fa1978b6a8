"""Sections of sweeps: trials, comparisons of methods, the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings, Text


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
    """One method of a comparison: a baseline, a metric, or else an adaptation."""

    baseline: Literal["no label", "liqe prompts", "brisque", "features", "residual", "scenes", "kernel"] | None = None
    """Without adaptation. Two that read no label: the backbone's own score by an antonym pair, and by LIQE's joint
    prompts of scene, distortion and grade. Ridge regression on BRISQUE's statistics, on the backbone's features, or on
    these for what the score without a label leaves, also with the scene (protocol.scenes) as a covariate; kernel
    regression on the features. null: adaptation, or a metric."""
    metric: Text | None = None
    """A no-reference metric of the package pyiqa, by its name there, in the place of a baseline. It reads no label."""
    start: Text = "random"
    """Prompts that adaptation starts from: `random`, or a name of ablate.pretrained."""
    regularized: bool = False
    """false: lambda 0. true: the lambda above 0 of sweep.lambdas, the best by validation if there are several."""
    ensemble: bool = False
    """true: the models of all label draws of a fold as one, as register.ensemble makes it. It needs protocol.folds and
    knows the labels of all these draws, more than an arm beside it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys of the configuration that this arm sets, such as {adapt.trainable.vision_blocks: 4}."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline is not None and self.metric is not None:
            raise InputError(
                f"an arm is a baseline ({self.baseline}) or a metric ({self.metric}), not both: remove one"
            )

    @property
    def adapts(self) -> bool:
        return self.baseline is None and self.metric is None


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
class CrossConfig(Settings):
    """Models of one labelled set tested on others."""

    sweeps: tuple[PathText, ...] = ()
    """Outputs of `grmp sweep`, one a set. An arm of `grmp ablate` is one, too: <output>/ablation/<arm>."""
    shots: Annotated[int, Ge(1)] | None = None
    """Number of labels of the models; null: the largest that all sweeps have."""


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

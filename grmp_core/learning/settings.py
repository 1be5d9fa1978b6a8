"""Configuration sections of pre-training and adaptation.

They are apart from the code that they configure, so that reading a configuration imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from grmp_core.errors import InputError
from grmp_core.model.settings import HeadConfig, HeadKind, TrainableConfig
from grmp_core.settings import Settings

AdaptLoss = Literal["cross_entropy", "concordance", "pairs"]
MetaLoss = Literal["cross_entropy", "msrcc", "triplet"]


@dataclass(frozen=True, kw_only=True)
class QgrConfig(Settings):
    """Quality-aware gradient regularization."""

    strength: Annotated[float, Ge(0)] = 5.0
    """lambda. 0 leaves the gradient alone, 1 removes the shared component, 5 (the published value) turns it to -4 x."""
    rule: Literal["agreement", "conflict"] = "agreement"
    """Gradients whose component along the semantic one is taken away: those that point the same way (published), or
    those that point against it (ProGrad)."""
    scope: Literal["tensor", "global"] = "tensor"
    """Inner products per parameter tensor (published code), or one over all parameters."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Temperature of the scene predictions in the semantic loss."""


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(Settings):
    """Adaptation to labelled images."""

    epochs: Annotated[int, Ge(1)] = 30
    """Passes over the labelled images at most; how many are used is chosen by validation. Published: up to 2000, the
    best by test score."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Labelled images per step. Published: 192."""
    lr: Annotated[float, Ge(0)] = 1e-3
    """Learning rate of SGD without momentum, constant; it suits one backbone only, so presets set it. Published: the
    same to begin with, times .3 where the test score no longer rises, until below 5e-7."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """L2 penalty of SGD: the gradient gets weight_decay x the parameter added."""
    loss: AdaptLoss = "cross_entropy"
    """`cross_entropy`: the published one. `concordance`: (1 - concordance correlation) + (1 - Pearson's correlation) of
    a batch; better with few labels where the backbone's own score is good already. `pairs`: which of two images is
    better, for all pairs of a batch (fidelity loss); it does not learn the scale of the labels."""
    distillation: Annotated[float, Ge(0)] = 10.0
    """Weight of the model before in `grmp continual` with method replay_free; nothing else reads it. 10 in the
    published code of continual BIQA."""
    folds: Annotated[int, Ge(1)] = 3
    """Parts of the labelled budget held out in turn to choose epoch and lambda; 1: one part, of size `holdout`."""
    holdout: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the labelled budget held out when folds is 1."""
    eval_every: Annotated[int, Ge(1)] = 1
    """Epochs between two validations."""
    head: HeadKind = "plain"
    """`plain`: the image tower's own pooling (published). `attention_panel`: the mean vote of learned queries over its
    patch tokens (after DEIQT). `denoise`: beside the pooled feature vote copies of it with noise added and taken away
    (after PFD-IQA). Heads are learned with all else that adapts, and begin near the plain one."""
    panel_queries: Annotated[int, Ge(1)] = 6
    """Queries of the attention panel."""
    denoise_steps: Annotated[int, Ge(0)] = 3
    """Noise levels of `denoise`; 0 is the plain head."""
    trainable: TrainableConfig = field(default_factory=TrainableConfig)
    """Tensors that adaptation moves."""
    qgr: QgrConfig = field(default_factory=QgrConfig)
    """Quality-aware gradient regularization."""

    @property
    def head_config(self) -> HeadConfig:
        """The head with its settings; those of other heads are at their default, since they decide nothing."""
        match self.head:
            case "attention_panel":
                return HeadConfig(kind=self.head, queries=self.panel_queries)
            case "denoise":
                return HeadConfig(kind=self.head, steps=self.denoise_steps)
        return HeadConfig()


@dataclass(frozen=True, kw_only=True)
class MetaConfig(Settings):
    """Meta-learning of the prompts over the distortion tasks."""

    loss: MetaLoss = "cross_entropy"
    """`cross_entropy`: the published one. `msrcc`: half the squared error, half a differentiable rank correlation
    (after MetaQAP). `triplet`: a reference's levels in order, apart by their labels (after TRIQA); batches then hold
    whole references."""
    algorithm: Literal["bilevel", "fomaml", "maml"] = "bilevel"
    """`bilevel`: the published one, an inner step on the support set and one on the query set. `fomaml` and `maml`:
    first and second order MAML."""
    outer_steps: Annotated[int, Ge(1)] = 50
    """N, moves of the shared prompts. Published: 100, one for TID2013 and one for KADID-10k in each of 50 epochs."""
    inner_steps: Annotated[int, Ge(1)] = 1
    """Support batches (and, for bilevel, as many query batches) a task and outer step. Published: 2 with TID2013, 5
    with KADID-10k, all images of the task."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Images a support or query batch. Published: 75 and 50."""
    inner_lr: Annotated[float, Ge(0)] = 1e-4
    """α, learning rate of the inner steps on a task."""
    outer_lr: Annotated[float, Ge(0)] = 1e-2
    """β: the shared prompts move this share of the way to the mean of the task prompts. Published: 1e-2, but there the
    drift of `resync: never` adds up. With `task` use about 1: 1e-2 moves ViT-B/16's prompts by 1e-4 in a whole run."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """`maml` needs sgd: Adam's square root has no second derivative at a zero gradient. Every task begins with fresh
    moments; published: with TID2013, one Adam goes on through all tasks."""
    resync: Literal["task", "never"] = "task"
    """`task`: every task starts from the shared prompts. `never`: the published code's drift, for comparison only."""
    tasks_per_step: Annotated[int, Ge(0)] = 0
    """Tasks drawn for an outer step; 0: all of them."""
    episodes_per_task: Annotated[int, Ge(1)] = 1
    """Episodes with images of their own that a task has in an outer step; all count alike in the mean update. More than
    one lets more workers than tasks work, and smooths the update; it does not depend on the number of workers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm == "maml" and self.inner_optimizer != "sgd":
            raise InputError(
                "meta.algorithm maml needs meta.inner_optimizer=sgd: Adam is not twice differentiable at 0"
            )
        if self.loss == "triplet" and self.batch_size < 3:
            raise InputError(f"meta.loss triplet needs meta.batch_size 3 or more, not {self.batch_size}")
        if self.resync == "never" and self.algorithm != "bilevel":
            raise InputError(f"meta.resync never belongs to algorithm bilevel, not {self.algorithm}")

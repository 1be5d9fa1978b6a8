"""The one configuration of a run: typed sections, filled from `ray_config.yaml` and `--set section.key=value`.

A section lives beside the code that owns it; the ones of the Ray workloads live here. Every field has a default, so an
empty file is a valid configuration (the embedded demo).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.few_shot import AdaptConfig
from grmp_core.learning.meta_pretraining import MetaConfig
from grmp_core.model.backbone import BackboneConfig, dtype_of
from grmp_core.model.prompts import PromptConfig
from pipelines.configuration.workloads import (
    AblateConfig,
    PretrainConfig,
    PreviewConfig,
    RegisterConfig,
    ReportConfig,
    ScoreConfig,
    SweepConfig,
    SynthesizeConfig,
    TargetConfig,
    TrackingConfig,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    output: str = "runs/demo"
    """Folder or s3://… prefix under which every command keeps its results."""
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    """Type of frozen weights and activations; what is learned is always float32. On a CPU without units for bf16 that
    takes many times as long as fp32; `grmp doctor` measures it."""
    wait_for_nodes_s: float = 0
    """Seconds to wait for an autoscaler to bring the nodes that a workload needs; 0: what is there must do."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    images: ImageLimits = field(default_factory=ImageLimits)
    synthesize: SynthesizeConfig = field(default_factory=SynthesizeConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    meta: MetaConfig = field(default_factory=MetaConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    ablate: AblateConfig = field(default_factory=AblateConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        dtype_of(self.precision)
        if not (math.isfinite(self.wait_for_nodes_s) and self.wait_for_nodes_s >= 0):
            raise InputError(f"wait_for_nodes_s {self.wait_for_nodes_s}: use a number of seconds, 0 or more")

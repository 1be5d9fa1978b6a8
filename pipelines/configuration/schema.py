"""The one configuration of a run: typed sections, filled from `ray_config.yaml` and `--set section.key=value`.

A section lives beside the code that owns it; those of the Ray workloads are in `workloads`. Every field has a default,
so an empty file is a valid configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import ConfigDict

from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import ProtocolConfig
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.settings import AdaptConfig, MetaConfig
from grmp_core.model.settings import BackboneConfig, PromptConfig
from grmp_core.settings import PathText, Settings
from pipelines.configuration.continual import ContinualConfig
from pipelines.configuration.distilling import DistilConfig
from pipelines.configuration.labels import InspectConfig, NextConfig, RateConfig, TargetConfig
from pipelines.configuration.models import CardConfig, ExportConfig, ImportConfig, RegisterConfig, TrackingConfig
from pipelines.configuration.pretraining import PretrainConfig, PreviewConfig, SynthesizeConfig
from pipelines.configuration.scoring import CompareConfig, ExplainConfig, ScoreConfig, ThresholdConfig, VideoConfig
from pipelines.configuration.serving import DriftConfig, ServeConfig
from pipelines.configuration.sweeping import AblateConfig, CrossConfig, ReportConfig, SweepConfig


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """One run: every command reads the sections that it needs.

    Presets are applied by `loading.load_config`; the constructor knows the built-in defaults only.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    """Holds for all sections below, too."""

    output: Annotated[PathText, MinLen(1)] = "runs/demo"
    """Folder or s3://… prefix under which every command keeps its results."""
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0
    """Start of all that is drawn at random; sweep.split_seeds draw the splits."""
    preset: Literal["auto", "none", "grmp-nano", "vit-b-16"] = "auto"
    """Values of prompts, views, meta and adapt that suit a backbone; a file and --set override them. `auto`: the one of
    backbone.name; `none`: the built-in defaults."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Type of frozen weights and activations; what is learned is always float32. On a CPU without units for bf16 that
    takes many times as long as fp32; `grmp doctor` measures it."""
    compile: bool = False
    """Compile the blocks of both towers with torch.compile for pre-training and adaptation: every worker then starts
    about a minute later. Results differ by rounding only, so runs go on with either. Not for `meta.algorithm: maml`."""
    wait_for_nodes_s: Annotated[float, Ge(0)] = 0
    """Seconds to wait for an autoscaler to bring the nodes that a workload needs; 0: those that are there must do."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    images: ImageLimits = field(default_factory=ImageLimits)
    synthesize: SynthesizeConfig = field(default_factory=SynthesizeConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    meta: MetaConfig = field(default_factory=MetaConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    rate: RateConfig = field(default_factory=RateConfig)
    next: NextConfig = field(default_factory=NextConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    ablate: AblateConfig = field(default_factory=AblateConfig)
    cross: CrossConfig = field(default_factory=CrossConfig)
    continual: ContinualConfig = field(default_factory=ContinualConfig)
    import_official: ImportConfig = field(default_factory=ImportConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)
    card: CardConfig = field(default_factory=CardConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile and self.meta.algorithm == "maml":
            raise InputError(
                "compile: what torch.compile makes cannot be differentiated twice, as maml needs: leave it off"
            )

    @property
    def compiler(self) -> str | None:
        """Backend of torch.compile; null: nothing is compiled."""
        return "inductor" if self.compile else None

    @property
    def test_share(self) -> float:
        """Of the target's images, those that test a trial."""
        return 1 / self.protocol.folds if self.protocol.folds else self.sweep.test_fraction

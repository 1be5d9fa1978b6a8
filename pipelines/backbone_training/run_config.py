"""The settings of one training run, apart from the loop, so that `--help` imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from grmp_core.errors import InputError

PATHS = ("material", "out", "start_weights", "start_from")
"""The settings of a run that are files or folders."""
_POSITIVE = (
    "minutes",
    "steps",
    "batches_per_step",
    "filter_every",
    "threads",
    "checkpoint_minutes",
    "learning_rate",
    "stem_rate",
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, as the command line gives it."""

    material: str
    out: str
    start_weights: str | None = None
    """EfficientNet-Lite0's .pth: where a first run starts."""
    start_from: str | None = None
    """Exported weights of an earlier run to go on from instead; the optimizer warms up anew."""
    minutes: float = 90
    steps: int | None = None
    """Length in steps instead of minutes: the same on every machine."""
    seed: int = 0
    precision: str = "bf16"
    device: str = "cpu"
    """cpu, or cuda for a GPU."""
    batches_per_step: int = 1
    """Batches of 48 crops that make one step's."""
    filter_every: int = 4
    """Steps between two that also move the stem's filters; 1 where a GPU makes them cheap."""
    threads: int = 1
    workers: int = 1
    """Processes that make batches, for each that trains."""
    checkpoint_minutes: float = 10
    learning_rate: float = 1e-3
    stem_rate: float = 2e-3
    triplet_weight: float = 0.0
    """Of triplets of one photo at rising severity (after TRIQA) in the objective; 0: there are none."""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value}: use more than 0")
        if not self.triplet_weight >= 0:
            raise InputError(f"--triplet-weight {self.triplet_weight}: use 0 or more")
        if self.device not in ("cpu", "cuda"):
            raise InputError(f"--device {self.device}: use cpu or cuda")
        if self.workers < 0:
            raise InputError(f"--workers {self.workers}: use 0 (the training process makes its batches) or more")

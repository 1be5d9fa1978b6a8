"""The stages of EfficientNet-Lite0 in grmp-nano's stem, and how much of them a smaller tower keeps."""

from __future__ import annotations

from dataclasses import dataclass

STRIDE_PX = 32
"""Side of a token's cell in pixels."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Inverted residual blocks of one resolution, as in EfficientNet's table 1."""

    channels: int
    expansion: int
    kernel: int
    stride: int
    blocks: int
    read: bool
    """The map behind this stage goes into the tokens."""


STAGES = (
    Stage(channels=16, expansion=1, kernel=3, stride=1, blocks=1, read=True),
    Stage(channels=24, expansion=6, kernel=3, stride=2, blocks=2, read=True),
    Stage(channels=40, expansion=6, kernel=5, stride=2, blocks=2, read=True),
    Stage(channels=80, expansion=6, kernel=3, stride=2, blocks=3, read=False),
    Stage(channels=112, expansion=6, kernel=5, stride=1, blocks=3, read=True),
    Stage(channels=192, expansion=6, kernel=5, stride=2, blocks=4, read=False),
    Stage(channels=320, expansion=6, kernel=3, stride=1, blocks=1, read=True),
)


@dataclass(frozen=True, kw_only=True)
class StemCut:
    """The part of the stem that a smaller tower keeps; all of it by default. Tokens are 7 x 7 in any case."""

    shrink: int = 1
    """The picture is shrunk to 1 / shrink of its side first, each pixel the mean of shrink x shrink."""
    stages: int = len(STAGES)
    """First stages that are kept, two or more."""

    def columns(self) -> list[int]:
        """Features of a cell in the whole stem that are features of the cut one, in their order."""
        kept, start, stride = list[int](), 0, 2
        for index, stage in enumerate(STAGES):
            stride *= stage.stride
            moments = 1 if stride == STRIDE_PX else 2
            own = 1 if stride * self.shrink == STRIDE_PX else 2
            if stage.read and index < self.stages:
                kept += range(start, start + own * stage.channels)
            start += moments * stage.channels if stage.read else 0
        return kept

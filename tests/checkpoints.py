"""What a pre-training that is killed leaves to go on from."""

from __future__ import annotations

from pathlib import Path

GOES_ON = "pretrain: goes on after outer step"
"""What a restarted run says when it does not begin anew."""


def has_checkpoint(pretrain: Path) -> bool:
    """Whether a run in `<output>/pretrain` that dies now goes on from a checkpoint."""
    return any(pretrain.glob("state/*/*.pt"))

"""Checkpoints of a killed pre-training."""

from __future__ import annotations

from pathlib import Path

GOES_ON = "pretrain: goes on after outer step"
"""First words of a restarted run that resumes."""


def has_checkpoint(pretrain: Path) -> bool:
    """Whether a run in `<output>/pretrain` that dies now goes on from a checkpoint."""
    return any(pretrain.glob("state/*/*.pt"))

"""What Ray Train knows of checkpoints, read from its files: a folder that is there is not yet one to go on from."""

from __future__ import annotations

import json
from pathlib import Path

GOES_ON = "pretrain: goes on after outer step"
"""What a restarted worker says when it does not begin anew."""


def has_checkpoint(pretrain: Path) -> bool:
    """Whether a run in `<output>/pretrain` that dies now goes on from a checkpoint."""
    return any(_registered(file) for file in pretrain.glob("train/*/checkpoint_manager_snapshot.json"))


def _registered(snapshot: Path) -> bool:
    try:
        return bool(json.loads(snapshot.read_text())["checkpoint_results"])
    except json.JSONDecodeError:
        return False  # being written

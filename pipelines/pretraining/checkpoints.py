"""Checkpoints of pre-training."""

from __future__ import annotations

from grmp_core.learning.meta_pretraining import MetaState
from grmp_core.storage import Location
from pipelines.training.checkpoints import read_checkpoint, write_checkpoint

History = list[dict[str, float]]


def write_state(folder: Location, state: MetaState, history: History) -> None:
    """As `write_checkpoint`."""
    content = {
        "history": history,
        "shared": dict(state.parameters),
        "drifted": None if state.drifted is None else dict(state.drifted),
    }
    write_checkpoint(folder, state.step, content)


def read_state(folder: Location) -> tuple[MetaState, History] | None:
    """The last that `write_state` wrote, or None when there is nothing."""
    content = read_checkpoint(folder)
    if content is None:
        return None
    return MetaState(content["step"], content["shared"], content["drifted"]), content["history"]

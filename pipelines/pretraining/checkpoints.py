"""Checkpoints of pre-training: whole or not there, whatever dies while one is written."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor

from grmp_core.learning.meta_pretraining import MetaState
from grmp_core.storage import Location

History = list[dict[str, float]]


def write_state(place: Location, state: MetaState, history: History) -> None:
    """A checkpoint, one file. The one before stays, for whoever is about to read it."""
    content = {
        "step": state.step,
        "history": history,
        "shared": _to_cpu(state.parameters),
        "drifted": None if state.drifted is None else _to_cpu(state.drifted),
    }
    data = io.BytesIO()
    torch.save(content, data)
    (place / f"step-{state.step:07}.pt").write_bytes(data.getvalue())
    for old in place.list(".pt")[:-2]:
        with suppress(FileNotFoundError):  # a worker that was taken for dead may still be at it
            old.delete()


def read_state(place: Location) -> tuple[MetaState, History] | None:
    """The last that `write_state` wrote, or None when there is nothing."""
    for file in reversed(place.list(".pt")):
        with suppress(FileNotFoundError):  # since deleted, as newer ones came
            content = torch.load(io.BytesIO(file.read_bytes()), weights_only=True)
            return MetaState(content["step"], content["shared"], content["drifted"]), content["history"]
    return None


def _to_cpu(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in parameters.items()}

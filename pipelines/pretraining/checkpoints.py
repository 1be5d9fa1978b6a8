"""Checkpoints of pre-training: whole or not there, whatever dies while one is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType

import torch
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.identity import Identity, check_version, listed
from grmp_core.learning.meta_pretraining import MetaState
from grmp_core.storage import Location
from pipelines.runtime.console import say

History = list[dict[str, float]]
_IDENTITY = "identity.json"


def state_folder(states: Location, identity: Identity) -> Location:
    """The folder below `states` for checkpoints of a pre-training with these settings, and its record in it.

    Other settings begin anew in a folder of their own, and the differences are said. InputError where an earlier
    version has left checkpoints, and where those of this name were made with another default.
    """
    kept = states / identity.digest
    checkpoints = states.list(".pt", recursive=True)
    records = {file.parent.name: file.read_json() for file in states.list(f"/{_IDENTITY}", recursive=True)}
    for record in records.values():
        check_version(record, states.uri)
    if any(file.parent.name not in records for file in checkpoints):
        raise InputError(
            f"{states.uri} holds checkpoints of an earlier version, which cannot be gone on with; choose another "
            "output, or delete that folder to pre-train anew"
        )
    changes = {name: identity.changes_from(record) for name, record in records.items()}
    if changes.get(kept.name):
        raise InputError(
            f"the checkpoints in {kept.uri} were made with other defaults ({listed(changes[kept.name])}); choose "
            "another output, or delete that folder to pre-train anew"
        )
    if kept.name not in records:
        if changes:
            nearest = min(changes.values(), key=len)
            say(f"pretrain: begins anew beside a pre-training with other settings: {listed(nearest)}")
        (kept / _IDENTITY).write_json(identity.record())
    return kept


def write_state(folder: Location, state: MetaState, history: History) -> None:
    """A checkpoint of a state on the CPU, one file. The one before stays, for whoever is about to read it."""
    content = {
        "step": state.step,
        "history": history,
        "shared": dict(state.parameters),
        "drifted": None if state.drifted is None else dict(state.drifted),
    }
    data = io.BytesIO()
    torch.save(content, data)
    (folder / f"step-{state.step:07}.pt").write_bytes(data.getvalue())
    for old in folder.list(".pt")[:-2]:
        with suppress(FileNotFoundError):  # a worker that was taken for dead may still be at it
            old.delete()


class StateWriter:
    """Writes checkpoints in a thread, from copies, while the next outer step is learned. Use as a context manager: at
    its end the last one is written. What `save` raises comes with the next checkpoint, or at the end."""

    def __init__(self, save: Callable[[MetaState, History], None]) -> None:
        self._save, self._thread = save, ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def write(self, state: MetaState, history: History) -> None:
        """Begin to write a checkpoint, once the one before is written."""
        drifted = None if state.drifted is None else _to_cpu(state.drifted)
        copy = MetaState(state.step, _to_cpu(state.parameters), drifted)
        self._wait()
        self._writing = self._thread.submit(self._save, copy, list(history))

    def __enter__(self) -> StateWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


def read_state(folder: Location) -> tuple[MetaState, History] | None:
    """The last that `write_state` wrote, or None when there is nothing."""
    for file in reversed(folder.list(".pt")):
        with suppress(FileNotFoundError):  # since deleted, as newer ones came
            content = torch.load(io.BytesIO(file.read_bytes()), weights_only=True)
            return MetaState(content["step"], content["shared"], content["drifted"]), content["history"]
    return None


def _to_cpu(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in parameters.items()}

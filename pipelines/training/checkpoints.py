"""Checkpoints of a training: whole or not there, whatever dies while one is written."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.identity import Identity, check_version, listed
from grmp_core.storage import Location
from pipelines.runtime.console import say

_IDENTITY = "identity.json"


def state_folder(states: Location, identity: Identity, command: str) -> Location:
    """The folder below `states` for checkpoints of a training with these settings, and its record in it.

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
            f"output, or delete that folder to {command} anew"
        )
    changes = {name: identity.changes_from(record) for name, record in records.items()}
    if changes.get(kept.name):
        raise InputError(
            f"the checkpoints in {kept.uri} were made with other defaults ({listed(changes[kept.name])}); choose "
            f"another output, or delete that folder to {command} anew"
        )
    if kept.name not in records:
        if changes:
            nearest = min(changes.values(), key=len)
            say(f"{command}: begins anew beside a run with other settings: {listed(nearest)}")
        (kept / _IDENTITY).write_json(identity.record())
    return kept


def write_checkpoint(folder: Location, step: int, content: dict[str, Any]) -> None:
    """A checkpoint, one file of plain types and tensors. The one before stays, for whoever is about to read it."""
    data = io.BytesIO()
    torch.save({"step": step, **content}, data)
    (folder / f"step-{step:07}.pt").write_bytes(data.getvalue())
    for old in folder.list(".pt")[:-2]:
        with suppress(FileNotFoundError):  # a worker that was taken for dead may still be at it
            old.delete()


def read_checkpoint(folder: Location) -> dict[str, Any] | None:
    """The last that `write_checkpoint` wrote, with its `step`, or None when there is nothing."""
    for file in reversed(folder.list(".pt")):
        with suppress(FileNotFoundError):  # since deleted, as newer ones came
            content: dict[str, Any] = torch.load(io.BytesIO(file.read_bytes()), weights_only=True)
            return content
    return None


class CheckpointWriter:
    """Writes checkpoints in a thread, from copies on the CPU, while the next step is learned. Use as a context manager:
    at its end the last one is written. What `save` raises comes with the next checkpoint, or at the end."""

    def __init__(self, save: Callable[..., None]) -> None:
        self._save, self._thread = save, ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def write(self, *content: Any) -> None:
        """Begin to `save(*content)`, once the checkpoint before is written."""
        copy = [_copied(part) for part in content]
        self._wait()
        self._writing = self._thread.submit(self._save, *copy)

    def __enter__(self) -> CheckpointWriter:
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


def _copied(content: Any) -> Any:
    """A copy with its tensors on the CPU."""
    if isinstance(content, Tensor):
        return content.detach().cpu().clone()
    if isinstance(content, Mapping):
        return {key: _copied(part) for key, part in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(_copied(part) for part in content)
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        parts = {field.name: _copied(getattr(content, field.name)) for field in dataclasses.fields(content)}
        return dataclasses.replace(content, **parts)
    return content

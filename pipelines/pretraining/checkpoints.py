"""Checkpoints of pre-training, written in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from torch import Tensor

from grmp_core.learning.meta_pretraining import MetaState
from grmp_core.storage import Location
from pipelines.training.checkpoints import read_checkpoint, write_checkpoint

History = list[dict[str, float]]


def write_state(folder: Location, state: MetaState, history: History) -> None:
    """As `write_checkpoint`, of a state on the CPU."""
    content = {
        "history": history,
        "shared": dict(state.parameters),
        "drifted": None if state.drifted is None else dict(state.drifted),
    }
    write_checkpoint(folder, state.step, content)


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
    content = read_checkpoint(folder)
    if content is None:
        return None
    return MetaState(content["step"], content["shared"], content["drifted"]), content["history"]


def _to_cpu(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in parameters.items()}

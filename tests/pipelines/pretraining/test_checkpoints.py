"""Checkpoints that a thread writes."""

from __future__ import annotations

import threading

import pytest
import torch

from grmp_core.learning.meta_pretraining import MetaState
from pipelines.pretraining.checkpoints import StateWriter


def test_a_checkpoint_is_written_from_a_copy_while_learning_goes_on():
    go_on, written = threading.Event(), []

    def save(state: MetaState, history: list[dict[str, float]]) -> None:
        go_on.wait(10)
        written.append((state.step, state.parameters["a"].tolist(), len(history)))

    tensor, history = torch.zeros(2), [{"step": 1.0}]
    with StateWriter(save) as writer:
        writer.write(MetaState(1, {"a": tensor}), history)
        tensor += 1
        history.append({"step": 2.0})
        assert not written
        go_on.set()
        writer.write(MetaState(2, {"a": tensor}), history)
    assert written == [(1, [0, 0], 1), (2, [1, 1], 2)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_failed_write_ends_the_run_at_the_next_checkpoint_or_at_the_end(count):
    def save(state: MetaState, history: list[dict[str, float]]) -> None:
        raise OSError("disk full")

    steps = []
    with pytest.raises(OSError, match="disk full"), StateWriter(save) as writer:  # noqa: PT012
        for step in range(count):
            writer.write(MetaState(step, {}), [])
            steps.append(step)
    assert steps == [0]


def test_what_ends_a_run_is_not_hidden_by_a_failed_write():
    def save(state: MetaState, history: list[dict[str, float]]) -> None:
        raise OSError("disk full")

    with pytest.raises(KeyboardInterrupt), StateWriter(save) as writer:  # noqa: PT012
        writer.write(MetaState(0, {}), [])
        raise KeyboardInterrupt

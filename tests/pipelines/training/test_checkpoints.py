"""Whose checkpoints a training goes on from."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.identity import Identity
from grmp_core.learning.meta_pretraining import MetaState
from grmp_core.learning.settings import MetaConfig
from grmp_core.storage import locate
from pipelines.training.checkpoints import CheckpointWriter, state_folder, write_checkpoint


def identity_of(meta: MetaConfig) -> Identity:
    return Identity.of({"seed": 0, "meta": meta})


def test_the_same_settings_go_on_and_others_begin_anew_saying_why(tmp_path, capsys):
    states = locate(tmp_path / "state")
    first = state_folder(states, identity_of(MetaConfig()), "pretrain")
    write_checkpoint(first, 1, {})
    assert state_folder(states, identity_of(MetaConfig()), "pretrain").uri == first.uri
    wider = dataclasses.make_dataclass("Wider", [("extra", int, 3)], bases=(MetaConfig,), frozen=True, kw_only=True)
    assert state_folder(states, identity_of(wider()), "pretrain").uri == first.uri, (
        "a setting that is added at its default"
    )
    assert capsys.readouterr().err == ""
    other = state_folder(states, identity_of(MetaConfig(outer_steps=7)), "pretrain")
    assert other.uri != first.uri
    assert f"meta.outer_steps was {MetaConfig().outer_steps} and is 7" in capsys.readouterr().err
    assert state_folder(states, identity_of(MetaConfig()), "pretrain").uri == first.uri


def test_checkpoints_of_an_earlier_version_are_refused(tmp_path):
    states = locate(tmp_path / "state")
    write_checkpoint(states / "0a1b2c3d4e", 1, {})
    with pytest.raises(InputError, match=r"checkpoints of an earlier version.*choose another output, or delete"):
        state_folder(states, identity_of(MetaConfig()), "pretrain")


def test_checkpoints_of_another_default_are_refused(tmp_path):
    states = locate(tmp_path / "state")
    state_folder(states, identity_of(MetaConfig()), "pretrain")
    later = dataclasses.make_dataclass(
        "Later", [("inner_steps", int, 9)], bases=(MetaConfig,), frozen=True, kw_only=True
    )
    with pytest.raises(InputError, match=r"made with other defaults \(meta\.inner_steps was \d and is 9\)"):
        state_folder(states, identity_of(later()), "pretrain")


def test_a_checkpoint_is_written_from_a_copy_while_learning_goes_on():
    go_on, written = threading.Event(), []

    def save(state: MetaState, history: list[dict[str, float]]) -> None:
        go_on.wait(10)
        written.append((state.step, state.parameters["a"].tolist(), len(history)))

    tensor, history = torch.zeros(2), [{"step": 1.0}]
    with CheckpointWriter(save) as writer:
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
    with pytest.raises(OSError, match="disk full"), CheckpointWriter(save) as writer:  # noqa: PT012
        for step in range(count):
            writer.write(MetaState(step, {}), [])
            steps.append(step)
    assert steps == [0]


def test_what_ends_a_run_is_not_hidden_by_a_failed_write():
    def save(state: MetaState, history: list[dict[str, float]]) -> None:
        raise OSError("disk full")

    with pytest.raises(KeyboardInterrupt), CheckpointWriter(save) as writer:  # noqa: PT012
        writer.write(MetaState(0, {}), [])
        raise KeyboardInterrupt

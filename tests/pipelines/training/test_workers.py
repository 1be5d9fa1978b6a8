"""An InputError of a worker of Ray Train is the user's to see, as one line and at once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import WorkerGroupError

from grmp_core.errors import ImageError, InputError
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.training import workers
from pipelines.training.workers import train_on_workers


class FakeTrainer:
    """Runs the loop here as worker 0 of `world_size`; what it raises is a failure of worker 0 as Ray Train has it."""

    world_size = 1
    others: dict[int, Exception] = {}  # noqa: RUF012

    def __init__(self, loop: Callable[[dict[str, Any]], Any], *, train_loop_config: dict[str, Any], **_: Any) -> None:
        self.loop, self.arguments = loop, train_loop_config

    def fit(self) -> SimpleNamespace:
        try:
            returned = self.loop(self.arguments)
        except Exception as error:
            raise WorkerGroupError("worker 0 failed", {**self.others, 0: error}) from error
        if self.others:
            raise WorkerGroupError("others failed", self.others)
        return SimpleNamespace(return_value=returned)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train with one loop on so many workers, of which the others fail as given."""

    def run(loop: Callable[[dict[str, Any]], None], world_size: int = 1, others: dict[int, Exception] | None = None):
        trainer = type("Trainer", (FakeTrainer,), {"world_size": world_size, "others": others or {}})
        context = SimpleNamespace(get_world_size=lambda: world_size)
        monkeypatch.setattr(workers, "TorchTrainer", trainer)
        monkeypatch.setattr(workers.ray.train, "get_context", lambda: context)
        train_on_workers(loop, {"name": "a.jpg"}, Config().distil, locate(str(tmp_path / "train")))

    return run


def refuses(arguments: dict[str, Any]) -> None:
    raise ImageError("is empty", arguments["name"])


def crashes(arguments: dict[str, Any]) -> None:
    raise RuntimeError("boom")


def passes(arguments: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize("world_size", [1, 2])
def test_input_error_of_a_worker_is_raised_as_it_is(train, world_size: int) -> None:
    with pytest.raises(ImageError, match=r"^a\.jpg: is empty$"):
        train(refuses, world_size)


def test_worker_alone_does_not_fail_for_an_input_error_so_that_nothing_is_tried_again(train, monkeypatch) -> None:
    ends: list[Any] = []
    monkeypatch.setattr(workers, "fit", lambda trainer: ends.append(trainer.fit().return_value))
    train(refuses)
    assert isinstance(ends[0], InputError)


def test_input_error_of_any_worker_goes_before_what_it_did_to_the_others(train) -> None:
    with pytest.raises(InputError, match="of worker 1"):
        train(crashes, 2, {1: InputError("of worker 1")})
    with pytest.raises(InputError, match="of worker 2"):
        train(passes, 3, {1: RuntimeError("connection closed"), 2: InputError("of worker 2")})


def test_any_other_failure_stays_that_of_ray_train(train) -> None:
    with pytest.raises(WorkerGroupError, match="worker 0 failed"):
        train(crashes)


def test_worker_that_ends_well_raises_nothing(train) -> None:
    train(passes)

"""Waiting for nodes: what fits, what an autoscaler is asked for, what is refused. The cluster is made up."""

from __future__ import annotations

import pytest
import ray
from ray.autoscaler import sdk

from grmp_core.errors import InputError
from pipelines.runtime import capacity
from pipelines.runtime.capacity import how_many_fit, require

PIECE = {"CPU": 1.0, "GPU": 1.0}


class MadeUpCluster:
    """Grows by one GPU node at every look, from the second on, once it was asked to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, grows: bool) -> None:
        self.nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}]
        self.requests: list[list[dict[str, float]]] = []
        self.grows = grows
        monkeypatch.setattr(ray, "nodes", self.look)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
        monkeypatch.setattr(sdk, "request_resources", lambda bundles: self.requests.append(bundles))
        monkeypatch.setattr(capacity, "POLL_S", 0.001)

    def look(self) -> list[dict]:
        if self.grows and self.requests:
            self.nodes.append({"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}})
        return self.nodes


def test_what_is_there_asks_nobody(monkeypatch):
    cluster = MadeUpCluster(monkeypatch, grows=False)
    require({"CPU": 2.0, "GPU": 0.0}, 2, 0, "a test wants", "lower it")
    assert cluster.requests == []


def test_without_waiting_the_lack_is_named_at_once(monkeypatch):
    cluster = MadeUpCluster(monkeypatch, grows=True)
    with pytest.raises(
        InputError, match=r"a test wants 2 x 1 CPU and 1 GPU; the cluster has 4 CPU and 0 GPU on 1 node"
    ):
        require(PIECE, 2, 0, "a test wants", "lower it")
    assert cluster.requests == []


def test_an_autoscaler_is_asked_once_and_the_request_is_taken_back(monkeypatch):
    cluster = MadeUpCluster(monkeypatch, grows=True)
    require(PIECE, 2, 60, "a test wants", "lower it")
    assert cluster.requests == [[PIECE, PIECE], []]
    assert how_many_fit(PIECE) >= 2


def test_nodes_that_do_not_come_are_an_answer_too(monkeypatch):
    cluster = MadeUpCluster(monkeypatch, grows=False)
    with pytest.raises(InputError, match=r"after 0\.01 s"):
        require(PIECE, 1, 0.01, "a test wants", "lower it")
    assert cluster.requests[-1] == []

"""Resources of the cluster, and whether a workload's pieces fit on it: Ray itself waits for room silently."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import ray
from ray.autoscaler import sdk

from grmp_core.errors import InputError
from pipelines.runtime.console import say

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config

POLL_S = 2.0


def how_many_fit(piece: Mapping[str, float]) -> int:
    """The number of pieces of work that the present nodes can hold, each on one node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needed = {name: amount for name, amount in piece.items() if amount > 0}
    return sum(min(int(node.get(name, 0) / amount + 1e-9) for name, amount in needed.items()) for node in nodes)


def require(piece: Mapping[str, float], count: int, wait_s: float, why: str, fix: str) -> None:
    """Return once `count` pieces fit. For up to `wait_s` seconds, an autoscaler is asked for the missing nodes.

    `why` and `fix` are for the message: the work that needs them, and the keys to lower.

    InputError when they still do not fit.
    """
    deadline, asked = time.monotonic() + wait_s, False
    try:
        while how_many_fit(piece) < count:
            if time.monotonic() >= deadline:
                raise InputError(_refusal(piece, count, wait_s, why, fix))
            if not asked:
                say(f"waiting up to {wait_s:g} s for nodes: {why} {_words(piece, count)}")
                sdk.request_resources(bundles=[{n: a for n, a in piece.items() if a > 0}] * count)
                asked = True
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
    finally:
        if asked:
            sdk.request_resources(bundles=[])  # the work itself holds the nodes from here on


def require_trial(config: Config, why: str) -> None:
    """`require` for one adaptation of `sweep.cpus_per_trial` and `sweep.gpus_per_trial`."""
    piece = {"CPU": config.sweep.cpus_per_trial, "GPU": config.sweep.gpus_per_trial}
    require(piece, 1, config.wait_for_nodes_s, why, "lower sweep.cpus_per_trial or sweep.gpus_per_trial")


def _words(piece: Mapping[str, float], count: int) -> str:
    parts = " and ".join(f"{amount:g} {name}" for name, amount in piece.items() if amount > 0)
    return f"{count} x {parts}"


def _refusal(piece: Mapping[str, float], count: int, wait_s: float, why: str, fix: str) -> str:
    have = ray.cluster_resources()
    present = " and ".join(f"{have.get(name, 0):g} {name}" for name, amount in piece.items() if amount > 0)
    waited = f" after {wait_s:g} s" if wait_s else ""
    nodes = sum(node["Alive"] for node in ray.nodes())
    return (
        f"{why} {_words(piece, count)}; the cluster{waited} has {present} on {nodes} node{'s' * (nodes != 1)}: "
        f"{fix}, or set wait_for_nodes_s so that an autoscaler can add nodes"
    )

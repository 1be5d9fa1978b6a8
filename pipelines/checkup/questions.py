"""Questions that a checkup asks of nodes and folders, each with a time limit."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines.checkup.node_probe import Errand, visit
from pipelines.checkup.verdicts import Answers, Node, NodeFacts
from pipelines.runtime.console import one_line


def ask_nodes(nodes: dict[str, str], errand: Errand, seconds: float) -> Answers:
    """Send a worker to each node (id by name) and wait for all together; what does not answer in time says so."""
    task = ray.remote(num_cpus=0, max_retries=0)(visit)
    answers: dict[str, NodeFacts | str] = {}
    waiting: dict[Any, str] = {}
    for name, node_id in nodes.items():
        try:
            pinned = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False))
            waiting[pinned.remote(errand)] = name
        except ValueError as error:  # Ray lost the node since it listed it
            answers[name] = one_line(error)
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=seconds) if waiting else ([], [])
    for ref in late:
        answers[waiting[ref]] = f"no answer within {seconds:g} s"
        ray.cancel(ref, force=True)
    for ref in ready:
        try:
            answers[waiting[ref]] = ray.get(ref)
        except Exception as error:  # Ray hands over whatever a node raised, and kinds of its own for lost nodes
            answers[waiting[ref]] = one_line(error)
    return answers


def problem_within(seconds: float, action: Callable[[], object]) -> str | None:
    """Why `action` failed, also by taking too long, or None. The client's own patience can be minutes."""
    problems = [f"no answer within {seconds:g} s"]

    def act() -> None:
        try:
            action()
        except Exception as error:  # MLflow's client lets through whatever its transport raises
            problems[0] = one_line(error)
        else:
            problems.clear()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    return problems[0] if problems else None


def leave_mark(output: Location) -> tuple[Location, str | None]:
    """A file with a content of its own in `output`, for the nodes to find; -> file, why that does not work."""
    mark = output / f".doctor-{secrets.token_hex(8)}"
    try:
        mark.write_bytes(mark.name.encode())
    except (InputError, OSError) as error:
        return mark, one_line(error)
    return mark, None


def node(entry: dict[str, Any]) -> Node:
    """A line of `ray.nodes()`. Two nodes may share an address, so the name has a part of the id."""
    address, resources = entry["NodeManagerAddress"], entry.get("Resources", {})
    return Node(
        name=f"{address} ({entry['NodeID'][:6]})",
        address=address,
        alive=entry["Alive"],
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        object_store_bytes=resources.get("object_store_memory", 0),
        memory_bytes=resources.get("memory", 0),
    )

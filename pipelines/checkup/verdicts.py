"""The findings of `grmp doctor` about nodes: facts in, findings out. Nothing here asks Ray, a disk or a server.

A finding about nodes is one line however many nodes there are: all of them, or the ones that have the problem.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.configuration.schema import Config

State = Literal["ok", "warn", "fail"]
Weights = Literal["embedded", "present", "absent"]

RAY_DISK_LIMIT = 0.95
"""Share of a disk above which Ray makes no more objects and workers there (its local_fs_capacity_threshold)."""
LITTLE_DISK_BYTES = 5_000_000_000
SHOWN_NODES = 3
LITTLE_SLOWDOWN = 1.5
"""Of bfloat16 against float32, below which a measurement may be chance."""


@dataclass(frozen=True)
class Finding:
    """One line of the checkup."""

    check: str
    state: State
    message: str
    fix: str = ""


@dataclass(frozen=True)
class Node:
    """A node as Ray lists it."""

    name: str
    address: str
    alive: bool
    cpus: float = 0
    gpus: float = 0
    object_store_bytes: float = 0
    memory_bytes: float = 0
    """That Ray gives to workers, beside the object store."""


@dataclass(frozen=True)
class Disk:
    path: str
    free_bytes: int
    total_bytes: int
    of_ray: bool
    """Holds Ray's temporary folder."""


@dataclass(frozen=True)
class NodeFacts:
    """The answer of a worker on a node."""

    versions: Mapping[str, str]
    storage_problem: str | None
    """Why a file in `output` could not be written, read and deleted; null: it could."""
    sees_output: bool
    """The file that the driver put into `output` is there with the same content."""
    absent_paths: tuple[str, ...]
    """Local files and folders the configuration names that this node does not have."""
    weights: Weights | None
    """null: they could not be looked for."""
    bf16_slowdown: float | None
    """Time of a matrix product in bfloat16 over that in float32, on the CPU; null: the configuration is in fp32."""
    disks: tuple[Disk, ...]
    gpu_bytes: int | None = None
    """Memory of the smallest GPU; null: there is none, or it is not known."""
    gpu_problem: str | None = None
    """Why the driver of the GPUs did not answer; null: it did, or there is none."""
    weights_problem: str | None = None
    """Why the weights could not be looked for; null: they could."""


Answers = Mapping[str, NodeFacts | str]
"""By node: its facts, or why there was no answer."""


def judge_nodes(nodes: Sequence[Node]) -> Finding:
    alive, dead = [n for n in nodes if n.alive], [n.name for n in nodes if not n.alive]
    cpus, gpus = sum(n.cpus for n in alive), sum(n.gpus for n in alive)
    seen = f"{_count(len(alive), 'node')}, {cpus:g} CPUs, {gpus:g} GPUs"
    if not alive:
        return Finding("nodes", "fail", "Ray has no living node", "start the cluster again")
    if dead:
        return Finding("nodes", "warn", f"{seen}; dead: {some(dead)}", "start new ones if they are still needed")
    return Finding("nodes", "ok", seen)


def judge_answers(answers: Answers) -> Finding:
    """Whether every node could import the package and answer."""
    silent = [f"{node}: {answer}" for node, answer in answers.items() if isinstance(answer, str)]
    if silent:
        fix = "install the same package (or image) on every node, or submit with --working-dir; see that node's Ray log"
        return Finding("package", "fail", some(silent), fix)
    return Finding("package", "ok", f"imported on {_count(len(answers), 'node')}")


def judge_versions(answers: Answers, here: Mapping[str, str]) -> Finding:
    """Every node against this process."""
    different = [
        f"{node} has {name} {facts.versions.get(name, 'missing')}, not {version}"
        for node, facts in _answered(answers).items()
        for name, version in here.items()
        if facts.versions.get(name) != version
    ]
    if different:
        fix = "install the same versions everywhere (constraints.txt, or one image for all nodes)"
        return Finding("versions", "fail", some(different), fix)
    return Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in here.items()))


def judge_storage(answers: Answers, output: str, is_local: bool, problem_here: str | None) -> Finding:
    """`output` must be one place for all nodes, not a folder of the same name on each."""
    if problem_here:
        return Finding("storage", "fail", problem_here, "set output to a place that can be written")
    facts = _answered(answers)
    broken = [f"{node}: {f.storage_problem}" for node, f in facts.items() if f.storage_problem]
    if broken:
        fix = "give every node the same address (AWS_ENDPOINT_URL) and credentials" if not is_local else _SHARED
        return Finding("storage", "fail", some(broken), fix)
    apart = [node for node, f in facts.items() if not f.sees_output]
    if apart:
        return Finding("storage", "fail", f"{output} is another folder on {some(apart)}", _SHARED)
    done = f"{output} written, read and deleted from {_count(len(facts), 'node')}"
    if is_local and len(answers) > 1:
        return Finding("storage", "warn", f"{done}; a local path that the nodes seem to share", _SHARED)
    return Finding("storage", "ok", done)


def judge_paths(answers: Answers) -> Finding:
    """Photos, labels and weights files that the configuration names by local path."""
    absent = [f"{node}: {path}" for node, f in _answered(answers).items() for path in f.absent_paths]
    if absent:
        fix = "correct the path in the configuration, or put the files where every node sees them"
        return Finding("inputs", "fail", some(absent), fix)
    return Finding("inputs", "ok", "every node has the files that the configuration names")


def judge_weights(answers: Answers, backbone: str) -> Finding:
    unknown = [f"{node}: {f.weights_problem}" for node, f in _answered(answers).items() if f.weights_problem]
    if unknown:
        fix = "correct backbone.name and backbone.pretrained, or set backbone.checkpoint to a file that all nodes see"
        return Finding("weights", "fail", some(unknown), fix)
    absent = [node for node, f in _answered(answers).items() if f.weights == "absent"]
    if absent:
        fix = "load them once there with network, or set backbone.checkpoint to a file that all nodes see"
        return Finding("weights", "warn", f"{backbone}: not in the cache of {some(absent)}; each downloads them", fix)
    if any(f.weights == "embedded" for f in _answered(answers).values()):
        return Finding("weights", "ok", f"{backbone} is embedded")
    return Finding("weights", "ok", f"{backbone} present")


def judge_precision(config: Config, answers: Answers) -> Finding:
    """Products in bfloat16 are many times slower on a CPU without units for them; only CPUs are judged."""
    gpus = (config.pretrain.gpus_per_worker, config.sweep.gpus_per_trial, config.score.gpus_per_worker)
    slowdowns = {node: f.bf16_slowdown or 0 for node, f in _answered(answers).items()}
    slow = {node: slowdown for node, slowdown in slowdowns.items() if slowdown > LITTLE_SLOWDOWN}
    if slow and min(gpus) == 0:
        times = [f"{node}: {slowdown:.0f} times as long" for node, slowdown in slow.items()]
        return Finding("precision", "warn", f"products in bf16, against fp32: {some(times)}", "set precision: fp32")
    return Finding("precision", "ok", config.precision)


def judge_gpus(answers: Answers) -> Finding:
    """Whether the drivers answer; that there are enough GPUs is judged with the other resources."""
    facts = _answered(answers)
    silent = [f"{node}: {f.gpu_problem}" for node, f in facts.items() if f.gpu_problem]
    if silent:
        fix = "run nvidia-smi there and repair the driver, or restart the machine; memory of its GPUs is not judged"
        return Finding("GPU driver", "warn", some(silent), fix)
    sizes = [f.gpu_bytes for f in facts.values() if f.gpu_bytes]
    if not sizes:
        return Finding("GPU driver", "ok", "no node has an NVIDIA GPU")
    have = f"{_count(len(sizes), 'node')} with GPUs of at least {size_text(min(sizes))}"
    return Finding("GPU driver", "ok", have)


def judge_disks(answers: Answers) -> Finding:
    disks = [(node, disk) for node, f in _answered(answers).items() for disk in f.disks]
    full = [_space(node, d) for node, d in disks if d.of_ray and d.free_bytes <= (1 - RAY_DISK_LIMIT) * d.total_bytes]
    if full:
        fix = "free space, or start Ray with a --temp-dir on another disk"
        return Finding("disk", "fail", f"too full for Ray, which wants {1 - RAY_DISK_LIMIT:.0%}: {some(full)}", fix)
    little = [_space(node, d) for node, d in disks if d.free_bytes < LITTLE_DISK_BYTES]
    if little:
        return Finding("disk", "warn", f"little left: {some(little)}", "free space before a long run")
    least = min(disks, key=lambda pair: pair[1].free_bytes, default=None)
    return Finding("disk", "ok", f"least free: {_space(*least)}" if least else "no local disk takes part")


def judge_object_store(nodes: Sequence[Node], needed_bytes: int | None) -> Finding:
    """A cluster of several machines gets the encoded target through it; a node holds it twice meanwhile."""
    least = min((n.object_store_bytes for n in nodes if n.alive), default=0)
    have = f"at least {size_text(least)} a node"
    if needed_bytes is None:
        return Finding("object store", "ok", f"{have}; no target to compare with")
    if 2 * needed_bytes > least:
        fix = "raise --object-store-memory of `ray start`, or lower views.train_views; Ray spills to disk meanwhile"
        return Finding("object store", "warn", f"{have}, a sweep wants {size_text(2 * needed_bytes)}", fix)
    return Finding("object store", "ok", f"{have}, a sweep wants {size_text(2 * needed_bytes)}")


def judge_resources(config: Config, nodes: Sequence[Node]) -> Finding:
    """Ray would wait silently for resources that the cluster does not have."""
    alive = [n for n in nodes if n.alive]
    wants = [
        ("pretrain", config.pretrain.workers, config.pretrain.cpus_per_worker, config.pretrain.gpus_per_worker),
        ("sweep", 1, config.sweep.cpus_per_trial, config.sweep.gpus_per_trial),
        ("score", 1, 1.0, config.score.gpus_per_worker),
    ]
    lacking = [
        f"{name} wants {_count(copies, 'process')} of {cpus:g} CPUs and {gpus:g} GPUs, {room} fit"
        for name, copies, cpus, gpus in wants
        if (room := sum(fitting(node, cpus, gpus) for node in alive)) < copies
    ]
    cpus = sum(n.cpus for n in alive)
    if config.pretrain.episodes == "stream" and config.pretrain.workers * config.pretrain.cpus_per_worker >= cpus > 0:
        lacking.append("pretrain leaves no CPU to make tasks, which pretrain.episodes=stream needs")
    if lacking:
        fix = "lower pretrain.workers, or cpus/gpus per worker or trial; or add nodes"
        return Finding("resources", "fail", some(lacking), fix)
    return Finding("resources", "ok", "the cluster has the CPUs and GPUs that the configuration asks for")


def judge_authentication(address: str | None, nodes: Sequence[Node], token: bool) -> Finding:
    """Whoever reaches a Ray cluster without a token can run programs on it."""
    if token:
        return Finding("token", "ok", "token authentication is on")
    if address is None:
        return Finding("token", "ok", "off; Ray runs on this machine for this command only")
    if all(_is_loopback(node.address) for node in nodes if node.alive):
        return Finding("token", "ok", "off; only this machine reaches the cluster")
    fix = "set RAY_AUTH_MODE=token and one token on every node and client (`ray get-auth-token --generate`)"
    return Finding("token", "warn", f"off; anyone who reaches {address} can run programs there", fix)


_SHARED = "set output to s3://bucket/folder or a shared folder"


def _answered(answers: Answers) -> dict[str, NodeFacts]:
    return {node: answer for node, answer in answers.items() if not isinstance(answer, str)}


def fitting(node: Node, cpus: float, gpus: float) -> int:
    """Processes of this size that a node holds; many when they ask for nothing."""
    room = [have / want for have, want in ((node.cpus, cpus), (node.gpus, gpus)) if want > 0]
    return int(min(room) + 1e-9) if room else 1_000_000


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def some(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN_NODES} more" if len(items) > SHOWN_NODES else ""
    return "; ".join(items[:SHOWN_NODES]) + more


def _space(node: str, disk: Disk) -> str:
    return f"{node} {disk.path} {size_text(disk.free_bytes)} of {size_text(disk.total_bytes)} free"


def size_text(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"

"""The findings of `grmp doctor` about memory: estimates of `memory_needs` against what nodes, GPUs and disks have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.checkup.memory_needs import ModelShape, Need, few_shot_trial, pretraining_worker, scoring_worker
from pipelines.checkup.verdicts import Disk, Finding, Node, fitting, size_text, some
from pipelines.configuration.schema import Config

AS_MANY_AS_FIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Equal processes of a command."""

    what: str
    copies: int
    """Of them run at once, where CPUs and GPUs allow; 1 where the command itself runs no more than memory allows."""
    cpus: float
    gpus: float
    need: Need
    lower: str
    """Settings that lower what they need."""


def processes_of(config: Config, shape: ModelShape, images: int) -> list[Processes]:
    """The workers of the commands that take long; `images` of the target, 0 without one."""
    pretrain, sweep, score = config.pretrain, config.sweep, config.score
    shots, tests = max(sweep.shots, default=images), round(images * config.test_share)
    return [
        Processes(
            what="a pre-training worker",
            copies=max(1, pretrain.workers),
            cpus=pretrain.cpus_per_worker,
            gpus=pretrain.gpus_per_worker,
            need=pretraining_worker(shape, config),
            lower="lower meta.batch_size or pretrain.workers, or set precision: bf16",
        ),
        Processes(
            what="a few-shot trial",
            copies=1,  # a sweep measures its first trial, and runs no more at a time than fit
            cpus=sweep.cpus_per_trial,
            gpus=sweep.gpus_per_trial,
            need=few_shot_trial(shape, config, min(shots, images), tests),
            lower="lower adapt.batch_size or adapt.trainable.vision_blocks, or set precision: bf16",
        ),
        Processes(
            what="a scoring worker",
            copies=score.workers or AS_MANY_AS_FIT,
            cpus=1.0,
            gpus=score.gpus_per_worker,
            need=scoring_worker(shape, config),
            lower="set score.workers to fewer, or lower score.batch_size",
        ),
    ]


def judge_memory(processes: Sequence[Processes], nodes: Sequence[Node], gpu_bytes: Mapping[str, int]) -> Finding:
    """Every node with as many processes as it would get.

    gpu_bytes: of the smallest GPU of a node, by its name; nodes without GPUs are left out.
    """
    lacking, fixes = [], []
    for kind in processes:
        problems = [_on_node(kind, node) for node in nodes if node.alive]
        problems += [_on_gpu(kind, name, size) for name, size in gpu_bytes.items()]
        found = [problem for problem in problems if problem]
        lacking += found
        fixes += [f"for {kind.what}: {kind.lower}"] if found else []
    needs = ", ".join(f"{kind.what} {_need_text(kind.need)}" for kind in processes)
    if lacking:
        return Finding("memory", "warn", f"estimates: {some(lacking)}", "; ".join(fixes))
    least = min((node.memory_bytes for node in nodes if node.alive), default=0)
    return Finding("memory", "ok", f"estimates: {needs}; Ray gives workers at least {size_text(least)} a node")


def judge_encoded(encoded_bytes: int | None, disk: Disk, limit_bytes: float) -> Finding:
    """The encoded target against the disk of `target.encoded`.

    encoded_bytes: null without a target, or where that cannot be known.
    """
    free = f"{disk.path} has {size_text(disk.free_bytes)} free"
    if encoded_bytes is None:
        return Finding("encoded target", "ok", f"{free}; no target to compare with")
    wants = f"estimate: {size_text(encoded_bytes)} for a sweep's images, {free}"
    lower = "lower views.train_views or views.score_grid, or set precision: bf16"
    if encoded_bytes > disk.free_bytes:
        return Finding("encoded target", "warn", wants, f"set target.encoded to a larger disk, or {lower}")
    if encoded_bytes > limit_bytes:
        fix = f"raise target.encoded_gb so that it stays for the next run, or {lower}"
        return Finding("encoded target", "warn", f"{wants}, target.encoded_gb {size_text(limit_bytes)}", fix)
    return Finding("encoded target", "ok", wants)


def _on_node(kind: Processes, node: Node) -> str:
    count = min(kind.copies, fitting(node, kind.cpus, kind.gpus))
    wanted = count * kind.need.main_bytes
    if wanted <= node.memory_bytes:
        return ""
    return f"{_times(kind, count, wanted)}, {node.name} has {size_text(node.memory_bytes)} for workers"


def _on_gpu(kind: Processes, node: str, gpu_bytes: int) -> str:
    if kind.gpus <= 0:
        return ""
    count = min(kind.copies, max(1, int(1 / kind.gpus + 1e-9)))
    wanted = count * kind.need.gpu_bytes
    return "" if wanted <= gpu_bytes else f"{_times(kind, count, wanted)} of a GPU, {node} has {size_text(gpu_bytes)}"


def _times(kind: Processes, count: int, wanted: float) -> str:
    return f"{kind.what} needs {size_text(wanted)}" if count == 1 else f"{count} x {kind.what} need {size_text(wanted)}"


def _need_text(need: Need) -> str:
    gpu = f" and {size_text(need.gpu_bytes)} of its GPU" if need.gpu_bytes else ""
    return size_text(need.main_bytes) + gpu

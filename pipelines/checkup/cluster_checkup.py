"""Check a cluster and a configuration before a long run: `grmp doctor`. One line a check, each with its fix.

The driver's machine comes first (`driver_checks`): what keeps Ray from starting is told without starting it. Then the
same worker is sent to every node by name, so that a node that cannot run it is found now and not in the middle of a
run; `node_probe` gathers facts there, `verdicts` judges them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.authentication.authentication_utils import is_token_auth_enabled

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.checkup import driver_checks, verdicts
from pipelines.checkup.memory_needs import ModelShape, encoded_bytes, model_shape
from pipelines.checkup.memory_verdicts import judge_encoded, judge_memory, processes_of
from pipelines.checkup.node_probe import Errand, compared_versions, disk_of
from pipelines.checkup.questions import ask_nodes, leave_mark, node
from pipelines.checkup.verdicts import Answers, Finding, Node, NodeFacts
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import has_target, load_target
from pipelines.few_shot.token_cache import TokenCache
from pipelines.runtime.cluster_address import cluster_address
from pipelines.runtime.console import one_line, say
from pipelines.runtime.ray_session import ray_session

ANSWER_SECONDS = 180.0
"""A node's first worker imports torch, which takes long on a busy machine."""
OF_NODES = ("versions", "storage", "inputs", "weights", "precision", "GPU driver", "disk")
"""Checks that need the answer of a node."""
SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True)
class Checkup:
    """Result of `grmp doctor`."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return 2 if any(finding.state == "fail" for finding in self.findings) else 0

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.exit_code == 0, "findings": [dataclasses.asdict(finding) for finding in self.findings]}

    def as_text(self) -> str:
        width = max(len(finding.check) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{SIGNS[finding.state]}  {finding.check:<{width}}  {finding.message}")
            if finding.fix:
                lines.append(f"{'':{width + 6}}  fix: {finding.fix}")
        return "\n".join(lines)


def check_cluster(config: Config, answer_seconds: float = ANSWER_SECONDS) -> Checkup:
    """Check everything; a check that cannot be made is a failed check. Ray is started only where it can start."""
    address = cluster_address()
    findings = [checked(name, judge) for name, judge in _driver_checks(address).items()]
    if all(finding.state != "fail" for finding in findings):
        try:
            with ray_session():
                return Checkup((*findings, *_cluster_findings(config, answer_seconds, address)))
        except Exception as error:  # of Ray's start, which has kinds of its own; a checkup reports what it meets
            away = "try again: a busy machine may be too slow for it" if address is None else "unset RAY_ADDRESS"
            fix = f"correct that, or {away}"
            findings.append(Finding("nodes", "fail", one_line(error), fix))
    return Checkup((*findings, checked("tracking", lambda: driver_checks.check_tracking(config, 1))))


def _driver_checks(address: str | None) -> dict[str, Callable[[], Finding]]:
    checks: dict[str, Callable[[], Finding]] = {
        "address": lambda: driver_checks.check_address(address),
        "temp dir": driver_checks.check_temp_dir,
        "home": driver_checks.check_home,
        "search path": lambda: driver_checks.check_search_path(address),
    }
    if address is not None:  # the temporary folder is that of the cluster's own start
        checks.pop("temp dir")
    return checks


def _cluster_findings(config: Config, answer_seconds: float, address: str | None) -> list[Finding]:
    raw = ray.nodes()
    nodes = [node(entry) for entry in raw]
    living = {node.name: entry["NodeID"] for node, entry in zip(nodes, raw, strict=True) if node.alive}
    output, backbone = locate(config.output), config.backbone
    say(f"doctor: asking {len(living)} node(s)")
    mark, problem = leave_mark(output)
    try:
        answers = ask_nodes(living, Errand(config, mark.name), answer_seconds)
    finally:
        with suppress(InputError, OSError):  # the line about storage says what is wrong there
            mark.delete()
    weights = " ".join(filter(None, [backbone.name, backbone.pretrained, backbone.checkpoint]))
    memory, encoded, object_store = _memory_judges(config, nodes, answers)
    judges: dict[str, Callable[[], Finding]] = {
        "nodes": lambda: verdicts.judge_nodes(nodes),
        "token": lambda: verdicts.judge_authentication(address, nodes, is_token_auth_enabled()),
        "package": lambda: verdicts.judge_answers(answers),
        "versions": lambda: verdicts.judge_versions(answers, compared_versions()),
        "storage": lambda: verdicts.judge_storage(answers, output.uri, output.is_local, problem),
        "inputs": lambda: verdicts.judge_paths(answers),
        "weights": lambda: verdicts.judge_weights(answers, weights),
        "precision": lambda: verdicts.judge_precision(config, answers),
        "GPU driver": lambda: verdicts.judge_gpus(answers),
        "disk": lambda: verdicts.judge_disks(answers),
        "memory": memory,
        "encoded target": encoded,
        "object store": object_store,
        "resources": lambda: verdicts.judge_resources(config, nodes),
        "tracking": lambda: driver_checks.check_tracking(config, len(living)),
    }
    if all(isinstance(answer, str) for answer in answers.values()):
        judges = {name: judge for name, judge in judges.items() if name not in OF_NODES}
    return [checked(name, judge) for name, judge in judges.items()]


def _memory_judges(
    config: Config, nodes: list[Node], answers: Answers
) -> tuple[Callable[[], Finding], Callable[[], Finding], Callable[[], Finding]]:
    """Of memory, of the encoded target's disk, and of the object store: what the model and the target ask for."""

    @functools.cache
    def shape() -> ModelShape:
        return model_shape(config)

    @functools.cache
    def images() -> int | None:
        return load_target(config.target).table.num_rows if has_target(config.target) else None

    def encoded() -> int | None:
        """null without a target, or for a tower that has no tokens to keep"""
        return encoded_bytes(shape(), config, images() or 0) or None

    gpus = {
        name: facts.gpu_bytes for name, facts in answers.items() if isinstance(facts, NodeFacts) and facts.gpu_bytes
    }

    def judge_cache() -> Finding:
        cache = TokenCache(config.target.encoded, config.target.encoded_gb * 1e9)
        return judge_encoded(encoded(), disk_of(cache.folder, of_ray=False), cache.limit_bytes)

    return (
        lambda: judge_memory(processes_of(config, shape(), images() or 0), nodes, gpus),
        judge_cache,
        lambda: verdicts.judge_object_store(nodes, encoded()),
    )


def checked(check: str, judge: Callable[[], Finding]) -> Finding:
    try:
        return judge()
    except Exception as error:  # of any library below; a checkup reports what it meets
        return Finding(check, "fail", one_line(error))

"""One real two-node cluster for all tests of this folder. Everything that talks to it is a process of its own, so that
the pytest process never joins it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from cluster.local_nodes import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["gaussian_blur", "white_noise"]
SETTINGS = {
    "synthesize": {"references": 4, "tasks": TASKS},
    "meta": {"outer_steps": 6, "batch_size": 3, "outer_lr": 0.5},
    "pretrain": {"workers": 2, "checkpoint_every": 1},
}


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=2, cpus_per_node=1) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def job_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory as a user would upload it: a configuration, and what must stay behind."""
    folder = tmp_path_factory.mktemp("job")
    output = tmp_path_factory.mktemp("output")
    tracking = {"uri": f"sqlite:///{output}/mlflow.db"}  # whatever the environment names
    (folder / "small.yaml").write_text(yaml.safe_dump({"output": str(output), "tracking": tracking, **SETTINGS}))
    (folder / "runs").mkdir()
    (folder / "runs" / "mlflow.db").write_text("changes while it is uploaded")
    return folder


@pytest.fixture(scope="package")
def synthesized(cluster, job_folder) -> subprocess.CompletedProcess[str]:
    """A workload, submitted with its working directory, and with a variable that its driver hands to workers, too."""
    command = ["python", "-m", "pipelines.synthesize", "--config", "small.yaml"]
    return submitted(cluster, job_folder, command, environment={"AWS_REGION": "eu-north-1"})


def output_of(job_folder: Path) -> Path:
    return Path(yaml.safe_load((job_folder / "small.yaml").read_text())["output"])


def submit_command(cluster: LocalCluster, folder: Path, command: Sequence[str], token_file: Path | None) -> list[str]:
    token = ["--token-file", str(token_file)] if token_file else []
    options = ["--address", cluster.dashboard_url, *token, "--working-dir", str(folder)]
    return [sys.executable, "-m", "cluster.submit", *options, "--", *command]


def client_environment(home: Path) -> dict[str, str]:
    """Neither this machine's Ray settings nor its token."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")}, "HOME": str(home)}


def submitted(
    cluster: LocalCluster,
    folder: Path,
    command: Sequence[str],
    token_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`python -m cluster.submit`, to its end."""
    return subprocess.run(
        submit_command(cluster, folder, command, token_file or cluster.token_file),
        cwd=ROOT,
        env={**client_environment(folder), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )

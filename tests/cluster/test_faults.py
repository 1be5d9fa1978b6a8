"""A machine that dies while it works costs time, not results."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests
import torch

from cluster.local_nodes import LocalCluster
from cluster.processes import wait_until
from grmp_core.model.bundle import read_bundle
from grmp_core.storage import locate
from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.pretraining.pretraining_run import pretrain_prompts
from tests.checkpoints import GOES_ON, has_checkpoint
from tests.cluster.conftest import ROOT, client_environment, output_of, submit_command

pytestmark = pytest.mark.slow
SPOT_WARNING = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken away", "--node-id"]


@pytest.fixture
def two_nodes(cluster, synthesized) -> LocalCluster:
    """Two nodes again after a test that lost one, and the task store."""
    assert synthesized.returncode == 0, synthesized.stderr + synthesized.stdout
    while len([node for node in cluster.state.nodes if node.process()]) < 2:
        cluster.add_node()
    return cluster


def test_pretraining_survives_the_loss_of_a_node_with_the_same_prompts(two_nodes, job_folder, tmp_path):
    """Two workers on two nodes; one node is killed after a checkpoint, another joins, the same job goes on."""
    job, config = start_pretraining(two_nodes, job_folder, tmp_path / "ours")
    await_checkpoint(job, config)
    two_nodes.kill_node(last_node(two_nodes))
    assert not bundle_of(config).exists(), "the run was over before its node was killed"
    two_nodes.add_node()
    assert GOES_ON in finish(job)
    assert_same_prompts(config, undisturbed(config, tmp_path))


def test_elastic_pretraining_goes_on_with_fewer_workers_to_the_same_prompts(two_nodes, job_folder, tmp_path):
    """No other node comes: the worker that is left does all of the work."""
    settings = ["pretrain.min_workers=1"]
    job, config = start_pretraining(two_nodes, job_folder, tmp_path / "ours", settings)
    await_checkpoint(job, config)
    two_nodes.kill_node(last_node(two_nodes))
    assert not bundle_of(config).exists(), "the run was over before its node was killed"
    assert GOES_ON in finish(job)
    assert_same_prompts(config, undisturbed(config, tmp_path))


def test_a_spot_warning_makes_a_checkpoint_from_which_the_run_goes_on(two_nodes, job_folder, tmp_path):
    """Checkpoints are due after the last step only: one that comes earlier came of the warning."""
    settings = ["pretrain.checkpoint_every=1000", "meta.outer_steps=40"]
    job, config = start_pretraining(two_nodes, job_folder, tmp_path / "ours", settings)
    lines = iter(job.stdout)
    assert any("outer step 2/" in line for line in lines), "pre-training did not begin"
    ray = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", *SPOT_WARNING, worker_node_id(two_nodes)]
    options = ["--address", two_nodes.state.address, "--deadline-remaining-seconds", "120"]
    environment = {**client_environment(tmp_path), **two_nodes.environment}
    subprocess.run([*ray, *options], env=environment, check=True, capture_output=True)
    await_checkpoint(job, config)
    two_nodes.kill_node(last_node(two_nodes))
    assert not bundle_of(config).exists(), "the run was over before its node was killed"
    two_nodes.add_node()
    log = finish(job, lines)
    assert "a node is about to be taken away" in log
    assert GOES_ON in log
    assert_same_prompts(config, undisturbed(config, tmp_path))


def start_pretraining(
    cluster: LocalCluster, job_folder: Path, output: Path, settings: Sequence[str] = ()
) -> tuple[subprocess.Popen[str], Config]:
    """A submitted job with an output of its own that has the task store."""
    output.mkdir(parents=True)
    (output / "tasks").symlink_to(output_of(job_folder) / "tasks")
    settings = [f"output={output}", *settings]
    changes = [part for setting in settings for part in ("--set", setting)]
    command = ["python", "-m", "pipelines.pretrain", "--config", "small.yaml", *changes]
    job = subprocess.Popen(
        submit_command(cluster, job_folder, command, cluster.token_file),
        cwd=ROOT,
        env=client_environment(job_folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return job, load_config(str(job_folder / "small.yaml"), settings)


def bundle_of(config: Config) -> Path:
    return Path(config.output) / "pretrain" / "bundle"


def await_checkpoint(job: subprocess.Popen[str], config: Config) -> None:
    place = Path(config.output) / "pretrain"
    reached = wait_until(lambda: has_checkpoint(place) or job.poll() is not None, timeout_s=300, poll_s=0.02)
    assert reached, "no checkpoint came"
    assert job.poll() is None, f"the job ended: {job.communicate()[0]}"


def finish(job: subprocess.Popen[str], lines: Iterator[str] | None = None) -> str:
    """-> the rest of the job's log."""
    log = "".join(lines) if lines is not None else job.communicate(timeout=400)[0]
    assert job.wait(timeout=400) == 0, log
    return log


def last_node(cluster: LocalCluster) -> int:
    return max(node.index for node in cluster.state.nodes if node.process())


def worker_node_id(cluster: LocalCluster) -> str:
    """Ray's name of the one node that is not the head."""
    headers = {"Authorization": f"Bearer {cluster.token_file.read_text()}"}
    answer = requests.get(f"{cluster.state.dashboard_url}/api/v0/nodes", headers=headers, timeout=30).json()
    nodes = answer["data"]["result"]["result"]
    (worker,) = [node["node_id"] for node in nodes if node["state"] == "ALIVE" and not node["is_head_node"]]
    return worker


def undisturbed(config: Config, folder: Path) -> Path:
    """The bundle of the same run in one process, without Ray."""
    (folder / "tasks").symlink_to(Path(config.output) / "tasks")
    alone = dataclasses.replace(config.pretrain, workers=0, min_workers=0)
    return Path(pretrain_prompts(dataclasses.replace(config, output=str(folder), pretrain=alone)).bundle)


def assert_same_prompts(config: Config, expected: Path) -> None:
    actual, reference = (read_bundle(locate(place)).parameters for place in (bundle_of(config), expected))
    assert actual.keys() == reference.keys()
    for name, tensor in reference.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-6, atol=1e-9)  # two workers add in another order

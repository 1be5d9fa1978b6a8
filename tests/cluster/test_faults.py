"""A machine that dies while it works costs time, not results."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
import torch

from cluster.processes import wait_until
from grmp_core.bundle import read_bundle
from grmp_core.storage import locate
from pipelines import pretrain
from pipelines.config import Config, load_config
from tests.cluster.conftest import ROOT, client_environment, output_of, submit_command


@pytest.mark.slow
def test_pretraining_survives_the_loss_of_a_node_with_the_same_prompts(cluster, job_folder, synthesized, tmp_path):
    """Two workers on two nodes; one node is killed after a checkpoint, another joins, the same job goes on."""
    assert synthesized.returncode == 0, synthesized.stderr + synthesized.stdout
    command = submit_command(
        cluster, job_folder, ["python", "-m", "pipelines.pretrain", "--config", "small.yaml"], cluster.token_file
    )
    environment = client_environment(job_folder)
    job = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    config = load_config(str(job_folder / "small.yaml"))
    place = output_of(job_folder) / "pretrain"
    assert wait_until(lambda: has_checkpoint(place), timeout_s=300, poll_s=0.02), "no checkpoint came"
    cluster.kill_node(last_node(cluster))
    assert not (place / "bundle").exists(), "the run was over before its node was killed"
    cluster.add_node()
    log, _ = job.communicate(timeout=400)
    assert job.returncode == 0, log
    assert_same_prompts(place / "bundle", undisturbed(config, tmp_path))


def has_checkpoint(place: Path) -> bool:
    return any(place.glob("train/*/checkpoint_*"))


def last_node(cluster) -> int:
    return max(node.index for node in cluster.state.nodes if node.process())


def undisturbed(config: Config, folder: Path) -> Path:
    """The bundle of the same run in one process, without Ray."""
    (folder / "tasks").symlink_to(Path(config.output) / "tasks")
    alone = dataclasses.replace(config.pretrain, workers=0)
    return Path(pretrain.run(dataclasses.replace(config, output=str(folder), pretrain=alone)).bundle)


def assert_same_prompts(ours: Path, expected: Path) -> None:
    found, wanted = (read_bundle(locate(place)).parameters for place in (ours, expected))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9)  # two workers add in another order

"""Memory that does not suffice is a warning that names who has too little and how to lower the need."""

from __future__ import annotations

import pytest

from grmp_core.model.settings import BackboneConfig
from pipelines.checkup import memory_verdicts, node_probe
from pipelines.checkup.memory_needs import Need, model_shape
from pipelines.checkup.memory_verdicts import Processes, judge_encoded, judge_memory, processes_of
from pipelines.checkup.verdicts import Disk, Node
from pipelines.configuration.pretraining import PretrainConfig
from pipelines.configuration.schema import Config

GB = 10**9
NODE = Node("node", "node", alive=True, cpus=4, gpus=1, memory_bytes=8 * GB)


def workers(copies: int, main_gb: float, gpu_gb: float = 0, gpus: float = 0) -> Processes:
    need = Need(main_bytes=main_gb * GB, gpu_bytes=gpu_gb * GB)
    return Processes(what="a worker", copies=copies, cpus=1, gpus=gpus, need=need, lower="set it lower")


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (workers(2, 4), None),
        (workers(3, 4), "3 x a worker need 12.0 GB, node has 8.0 GB for workers"),
        (workers(100, 2), None),  # four CPUs hold four of them
        (workers(100, 2.1), "4 x a worker need 8.4 GB"),
        (workers(1, 9), "a worker needs 9.0 GB"),
        (workers(4, 1, gpu_gb=12, gpus=0.5), None),
        (workers(4, 1, gpu_gb=13, gpus=0.5), "2 x a worker need 26.0 GB of a GPU, node has 24.0 GB"),
    ],
)
def test_processes_against_a_node_and_its_gpu(processes, message):
    finding = judge_memory([processes], [NODE], {"node": 24 * GB})
    assert finding.state == ("ok" if message is None else "warn")
    assert (message or "a worker") in finding.message
    assert finding.fix == ("" if message is None else "for a worker: set it lower")


def test_a_dead_node_has_nothing_to_hold():
    dead = Node("dead", "dead", alive=False, cpus=4)
    assert judge_memory([workers(1, 4)], [NODE, dead], {}).state == "ok"


@pytest.mark.parametrize(
    ("encoded_gb", "state", "fix"),
    [(None, "ok", ""), (5, "ok", ""), (15, "warn", "encoded_gb"), (50, "warn", "larger")],
)
def test_the_encoded_target_against_its_disk_and_its_limit(encoded_gb, state, fix):
    disk = Disk("/cache", 40 * GB, 100 * GB, of_ray=False)
    finding = judge_encoded(None if encoded_gb is None else encoded_gb * GB, disk, 10 * GB)
    assert (finding.state, fix in finding.fix) == (state, True)


def test_the_processes_of_a_configuration():
    config = Config(backbone=BackboneConfig(name="grmp-nano-xxs"), pretrain=PretrainConfig(workers=3))
    pretrain, trial, score = processes_of(config, model_shape(config), 100)
    assert (pretrain.copies, trial.copies, score.copies) == (3, 1, memory_verdicts.AS_MANY_AS_FIT)
    assert min(kind.need.main_bytes for kind in (pretrain, trial, score)) > 0


def test_memory_of_gpus_is_asked_of_their_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert node_probe.gpu_bytes() is None
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 81559\necho 24576\n")
    driver.chmod(0o700)
    assert node_probe.gpu_bytes() == 24576 << 20

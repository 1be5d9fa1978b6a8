"""The checkup: judgement by facts alone, and one visit to a real node."""

from __future__ import annotations

import dataclasses
import time

import pytest

from grmp_core.errors import InputError
from grmp_core.model.nano_trunk import SIZES
from grmp_core.model.settings import BackboneConfig
from pipelines.checkup import cluster_checkup, node_probe, questions, verdicts
from pipelines.checkup.cluster_checkup import check_cluster
from pipelines.checkup.verdicts import Disk, Finding, Node, NodeFacts
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.pretraining import PretrainConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.configuration.sweeping import SweepConfig

GB = 1_000_000_000
HERE = {"grmp-iqa": "0123456789", "python": "3.11.7"}
GOOD = NodeFacts(
    versions=HERE,
    storage_problem=None,
    sees_output=True,
    absent_paths=(),
    weights="embedded",
    bf16_slowdown=0.2,
    disks=(Disk("/tmp/ray", 50 * GB, 100 * GB, of_ray=True),),
)
TWO = {"10.0.0.1": GOOD, "10.0.0.2": GOOD}
NODES = (
    Node("10.0.0.1", "10.0.0.1", alive=True, cpus=4, gpus=1, object_store_bytes=2 * GB),
    Node("10.0.0.2", "10.0.0.2", alive=True, cpus=2, gpus=0, object_store_bytes=GB),
)


def changed(**changes) -> dict[str, NodeFacts]:
    """Two nodes, the second with something else."""
    return {**TWO, "10.0.0.2": dataclasses.replace(GOOD, **changes)}


def storage(answers, is_local=False, problem=None) -> Finding:
    return verdicts.judge_storage(answers, "s3://bucket/run", is_local, problem)


def tight(**pretraining) -> Finding:
    return verdicts.judge_resources(Config(pretrain=PretrainConfig(**pretraining)), NODES)


def test_images_of_a_description_that_knows_its_folder_need_memory(tmp_path, monkeypatch):
    for name in ("0.png", "1.png"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("photo,stars\n0.png,3\n1.png,4\n")
    described = tmp_path / "my_set.yaml"
    described.write_text("tables: labels.csv\nimage: photo\nscore: stars\nrange: [1, 5]\n")
    monkeypatch.setattr(cluster_checkup, "encoded_bytes", lambda shape, config, images: images * GB)
    monkeypatch.setattr(cluster_checkup, "model_shape", lambda config: None)
    monkeypatch.setattr(verdicts, "judge_object_store", lambda nodes, needed: Finding("store", "ok", str(needed), ""))
    for target, expected in ((TargetConfig(dataset=str(described)), 2 * GB), (TargetConfig(), None)):
        *_, store = cluster_checkup._memory_judges(Config(target=target), [], {})
        assert store().message == str(expected)


def precision(answers, gpus: float = 0) -> Finding:
    everywhere = {
        "pretrain": PretrainConfig(gpus_per_worker=gpus),
        "sweep": SweepConfig(gpus_per_trial=gpus),
        "score": ScoreConfig(gpus_per_worker=gpus),
    }
    return verdicts.judge_precision(Config(precision="bf16", **everywhere), answers)


@pytest.mark.parametrize(
    ("finding", "state", "message"),
    [
        (verdicts.judge_nodes(NODES), "ok", "2 nodes, 6 CPUs, 1 GPUs"),
        (verdicts.judge_nodes((*NODES, Node("10.0.0.3", "10.0.0.3", alive=False))), "warn", "dead: 10.0.0.3"),
        (verdicts.judge_nodes(()), "fail", "no living node"),
        (verdicts.judge_answers(TWO), "ok", "2 nodes"),
        (verdicts.judge_answers({**TWO, "10.0.0.2": "No module named 'x'"}), "fail", "10.0.0.2: No module named 'x'"),
        (verdicts.judge_versions(TWO, HERE), "ok", "python 3.11.7"),
        (
            verdicts.judge_versions(changed(versions={**HERE, "python": "3.12.1"}), HERE),
            "fail",
            "10.0.0.2 has python 3.12.1, not 3.11.7",
        ),
        (storage(TWO), "ok", "from 2 nodes"),
        (storage(TWO, is_local=True), "warn", "a local path"),
        (storage({"10.0.0.1": GOOD}, is_local=True), "ok", "from 1 node"),
        (storage(changed(sees_output=False), is_local=True), "fail", "is another folder on 10.0.0.2"),
        (storage(changed(storage_problem="credentials are refused")), "fail", "10.0.0.2: credentials are refused"),
        (storage(TWO, problem="there is no such bucket"), "fail", "there is no such bucket"),
        (verdicts.judge_paths(TWO), "ok", "every node"),
        (verdicts.judge_paths(changed(absent_paths=("/data/mos.csv",))), "fail", "10.0.0.2: /data/mos.csv"),
        (verdicts.judge_weights(TWO, "grmp-nano"), "ok", "embedded"),
        (verdicts.judge_weights(changed(weights="absent"), "ViT-B-16 openai"), "warn", "cache of 10.0.0.2"),
        (
            verdicts.judge_weights(changed(weights=None, weights_problem="no tag of ViT-B-16"), "ViT-B-16 x"),
            "fail",
            "10.0.0.2: no tag of ViT-B-16",
        ),
        (verdicts.judge_gpus(TWO), "ok", "no node has"),
        (verdicts.judge_gpus(changed(gpu_bytes=24 * GB)), "ok", "1 node with GPUs of at least 24.0 GB"),
        (verdicts.judge_gpus(changed(gpu_problem="nvidia-smi hangs")), "warn", "10.0.0.2: nvidia-smi hangs"),
        (precision(TWO), "ok", "bf16"),
        (precision(changed(bf16_slowdown=24.0)), "warn", "10.0.0.2: 24 times as long"),
        (precision(changed(bf16_slowdown=24.0), gpus=1), "ok", "bf16"),
        (verdicts.judge_disks(TWO), "ok", "50.0 GB of 100.0 GB"),
        (verdicts.judge_disks(changed(disks=(Disk("/o", 4 * GB, 99 * GB, of_ray=False),))), "warn", "little left"),
        (verdicts.judge_disks(changed(disks=(Disk("/r", 40 * GB, 1000 * GB, of_ray=True),))), "fail", "wants 5%"),
        (verdicts.judge_object_store(NODES, None), "ok", "at least 1.0 GB"),
        (verdicts.judge_object_store(NODES, GB // 2), "ok", "wants 1.0 GB"),
        (verdicts.judge_object_store(NODES, GB), "warn", "wants 2.0 GB"),
        (tight(workers=6), "ok", "has the CPUs"),
        (tight(workers=7), "fail", "pretrain wants 7 processes of 1 CPUs and 0 GPUs, 6 fit"),
        (tight(workers=2, cpus_per_worker=3), "fail", "1 fit"),
        (tight(workers=2, gpus_per_worker=0.5), "ok", "has the CPUs"),
        (tight(workers=6, episodes="stream"), "fail", "no CPU to make tasks"),
        (tight(workers=0), "ok", "has the CPUs"),
        (verdicts.judge_resources(Config(sweep=SweepConfig(gpus_per_trial=2)), NODES), "fail", "sweep wants"),
        (verdicts.judge_authentication("10.0.0.1:6379", NODES, token=True), "ok", "is on"),
        (verdicts.judge_authentication("10.0.0.1:6379", NODES, token=False), "warn", "anyone who reaches"),
        (verdicts.judge_authentication(None, NODES, token=False), "ok", "this command only"),
        (
            verdicts.judge_authentication("127.0.0.1:1", (Node("a", "127.0.0.1", alive=True),), token=False),
            "ok",
            "only this machine",
        ),
    ],
)
def test_the_same_facts_give_the_same_finding(finding, state, message):
    assert finding.state == state
    assert message in finding.message
    assert bool(finding.fix) == (state != "ok") or "no such bucket" in message


def test_many_nodes_with_the_same_trouble_are_one_short_line():
    finding = verdicts.judge_answers({f"10.0.0.{i}": "no answer" for i in range(64)})
    assert finding.message.endswith("and 61 more")
    assert len(finding.message) < 120


def test_only_a_failed_check_fails_the_checkup():
    warned = cluster_checkup.Checkup((Finding("a", "ok", "fine"), Finding("b", "warn", "odd", "look")))
    failed = cluster_checkup.Checkup((*warned.findings, Finding("c", "fail", "broken", "repair")))
    assert (warned.exit_code, failed.exit_code) == (0, 2)
    assert failed.as_json()["ok"] is False
    assert failed.as_text().splitlines()[-2:] == ["FAIL  c  broken", "         fix: repair"]


def test_weights_are_looked_for_and_not_loaded(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    assert node_probe.weights_here(BackboneConfig(name="ViT-B-16", checkpoint=str(file))) == "absent"
    file.touch()
    assert node_probe.weights_here(BackboneConfig(name="ViT-B-16", checkpoint=str(file))) == "present"
    for name in SIZES:
        assert node_probe.weights_here(BackboneConfig(name=name)) == "embedded"
        assert node_probe.weights_here(BackboneConfig(name=name, checkpoint=str(file))) == "present"
    with pytest.raises(InputError, match="grmp-nano-s is embedded and has no tags"):
        node_probe.weights_here(BackboneConfig(name="grmp-nano-s", pretrained="openai"))
    with pytest.raises(InputError, match="'ViT-B-16' has no weights"):
        node_probe.weights_here(BackboneConfig(name="ViT-B-16"))
    monkeypatch.setattr(node_probe, "try_to_load_from_cache", lambda repository, name: None)
    assert node_probe.weights_here(BackboneConfig(name="ViT-B-16-quickgelu", pretrained="openai")) == "absent"


def test_a_fault_of_weights_or_of_the_gpu_driver_leaves_the_other_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(node_probe, "_disks", lambda output: [])  # it asks Ray
    monkeypatch.setattr(node_probe, "SMI_SECONDS", 0.1)
    monkeypatch.setenv("PATH", str(tmp_path))
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    driver.chmod(0o700)
    errand = node_probe.Errand(Config(output=str(tmp_path), backbone=BackboneConfig(name="ViT-B-16")), "absent")
    facts = node_probe.visit(errand)
    assert facts.storage_problem is None
    assert (facts.weights, facts.gpu_bytes) == (None, None)
    assert "'ViT-B-16' has no weights" in (facts.weights_problem or "")
    assert facts.gpu_problem == "nvidia-smi has not answered within 0.1 s"
    driver.write_text("no program")
    assert "nvidia-smi does not run" in (node_probe.visit(errand).gpu_problem or "")


def test_an_action_that_takes_too_long_or_fails_is_a_problem():
    assert questions.problem_within(0.05, lambda: time.sleep(1)) == "no answer within 0.05 s"
    assert questions.problem_within(5, lambda: 1 / 0) == "division by zero"
    assert questions.problem_within(5, dict) is None


def test_a_check_that_raises_is_a_failed_check():
    finding = cluster_checkup.checked("tracking", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert finding == Finding("tracking", "fail", "division by zero")


@pytest.mark.ray
def test_a_real_node_is_visited(tmp_path, ray_instance):
    findings = {f.check: f for f in check_cluster(Config(output=str(tmp_path))).findings}
    assert {name for name, f in findings.items() if f.state == "fail"} <= {"disk"}, findings
    assert findings["storage"].message == f"{tmp_path} written, read and deleted from 1 node"
    assert not list(tmp_path.iterdir())
    assert "embedded" in findings["weights"].message


@pytest.mark.ray
def test_a_node_that_is_gone_or_slow_is_an_answer(ray_instance):
    answers = questions.ask_nodes({"gone": "f" * 56}, node_probe.Errand({}, ""), 20)
    assert isinstance(answers["gone"], str)
    assert answers["gone"]

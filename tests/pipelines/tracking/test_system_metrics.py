"""Every node's use of its machine, kept in the command's folder and logged with its run."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from types import SimpleNamespace

import psutil
import pytest
import ray
from ray.exceptions import GetTimeoutError

from grmp_core.storage import locate
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.tracking import system_metrics as recording
from pipelines.tracking.catching_up import log_outbox
from pipelines.tracking.system_metrics import FILE, read_samples, system_metrics
from pipelines.tracking.tracker import open_tracking
from tests.pipelines.tracking.folders import write_pretraining


def sampled_each(seconds: float) -> Config:
    return Config(tracking=TrackingConfig(system_metrics_s=seconds))


def record_until(folder, config: Config, of: str, count: int) -> None:
    """Record until `count` samples were taken, at most half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "_SAMPLES_OF_A_WRITE", 1)
        deadline = time.monotonic() + 30
        before = len(read_samples(folder))
        with system_metrics(config, folder, of):
            while len(read_samples(folder)) - before < count and time.monotonic() < deadline:
                time.sleep(0.02)


def test_this_machine_without_ray_as_psutil_sees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(recording.ray, "is_initialized", lambda: False)  # by an earlier test
    folder = locate(tmp_path)
    record_until(folder, sampled_each(0.02), "a", 3)
    samples = read_samples(folder)
    assert len(samples) >= 3
    assert {sample["node"] for sample in samples} == {socket.gethostname()}
    times = [sample["time_ms"] for sample in samples]
    assert times == sorted(times)
    assert abs(times[-1] / 1000 - time.time()) < 60
    last = samples[-1]["metrics"]
    assert 0 <= last["cpu_utilization_percentage"] <= 100
    assert last["disk_usage_percentage"] == pytest.approx(psutil.disk_usage("/").percent, abs=2)
    memory = psutil.virtual_memory()
    assert last["system_memory_usage_percentage"] == pytest.approx(100 * memory.used / memory.total, abs=25)


def test_an_interrupted_run_keeps_its_samples_and_another_run_does_not(tmp_path):
    folder = locate(tmp_path)
    record_until(folder, sampled_each(0.02), "a", 2)
    before = read_samples(folder)
    record_until(folder, sampled_each(0.02), "a", 2)
    assert read_samples(folder)[: len(before)] == before
    assert len(read_samples(folder)) > len(before)
    (tmp_path / FILE).write_text(json.dumps({"of": "b", "samples": before}))
    record_until(folder, sampled_each(0.02), "a", 1)
    assert read_samples(folder)[0] not in before


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_short_run_and_one_that_does_without_leave_no_file(tmp_path, seconds):
    with system_metrics(sampled_each(seconds), locate(tmp_path), "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_a_line_and_not_the_run(tmp_path, capsys):
    (tmp_path / FILE).mkdir()
    (tmp_path / FILE / "file").write_text("")
    folder = locate(tmp_path / FILE / "file")
    with system_metrics(sampled_each(0.01), folder, "a"):
        time.sleep(0.3)
    assert "no more system metrics" in capsys.readouterr().err


def test_nodes_are_told_apart_in_the_run_and_no_point_comes_twice(mlflow_store, tmp_path, request, monkeypatch):
    folder = write_pretraining(tmp_path)
    of_node = {"10.0.0.1-aa": [10.0, 20.0], "10.0.0.2-bb": [90.0]}
    samples = [
        {"node": node, "time_ms": 1000 * (k + 1), "metrics": {"cpu_utilization_percentage": value}}
        for node, values in of_node.items()
        for k, value in enumerate(values)
    ]
    (folder / FILE).write_text(json.dumps({"of": "a", "samples": samples}))
    section = TrackingConfig(uri=mlflow_store.uri, experiment=request.node.name)
    config = dataclasses.replace(Config(output=str(tmp_path)), tracking=section)
    tracker = open_tracking(config)
    monkeypatch.setattr(tracker.client, "set_terminated", lambda *_: 1 / 0)
    assert tracker.log("pretrain", locate(folder)) == ""
    (run_id,) = log_outbox(config).runs
    for node, values in of_node.items():
        logged = tracker.client.get_metric_history(run_id, f"system/{node}/cpu_utilization_percentage")
        assert [(m.step, m.timestamp, m.value) for m in logged] == [
            (k, 1000 * (k + 1), v) for k, v in enumerate(values)
        ]


def test_a_node_that_does_not_answer_is_counted(tmp_path, monkeypatch, capsys):
    def silent(*_, **__):
        raise GetTimeoutError("busy")

    actor = SimpleNamespace(sample=SimpleNamespace(remote=lambda: None))
    made = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: actor))
    node = {"NodeManagerAddress": "10.0.0.1", "NodeID": "a" * 56, "Alive": True}
    replaced = {"is_initialized": lambda: True, "nodes": lambda: [node], "remote": lambda **_: lambda _: made}
    for name, function in {**replaced, "get": silent}.items():
        monkeypatch.setattr(recording.ray, name, function)
    with system_metrics(sampled_each(0.01), locate(tmp_path), "a"):
        time.sleep(0.2)
    content = json.loads((tmp_path / FILE).read_text())
    assert content["samples"] == []
    missing = content["unanswered"]["10.0.0.1-aaaaaa"]
    assert missing > 0
    assert f"{missing} samples of system metrics are missing, 10.0.0.1-aaaaaa" in capsys.readouterr().err


def test_an_actor_of_no_cpu_samples_a_node_of_ray(tmp_path, ray_instance):
    folder = locate(tmp_path)
    free = ray.available_resources().get("CPU")
    record_until(folder, sampled_each(0.2), "a", 2)
    (node,) = ray.nodes()
    assert {sample["node"] for sample in read_samples(folder)} == {f"{node['NodeManagerAddress']}-{node['NodeID'][:6]}"}
    assert ray.available_resources().get("CPU") == free

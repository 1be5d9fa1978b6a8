"""Faults of the driver's machine, each a finding with its fix, and Ray is not even started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipelines.checkup import cluster_checkup, driver_checks
from pipelines.checkup.cluster_checkup import check_cluster
from pipelines.checkup.verdicts import Finding
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.tracking.tracker import tracker_of


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def started() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster_checkup, "ray_session", started)


def findings(config: Config) -> dict[str, Finding]:
    checkup = check_cluster(config)
    assert checkup.exit_code == 2
    assert all(finding.fix for finding in checkup.findings if finding.state != "ok")
    assert "\nTraceback" not in checkup.as_text()
    return {finding.check: finding for finding in checkup.findings}


def test_a_dead_address_is_found_with_the_store_beside_it(tmp_path, monkeypatch, without_ray):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed.getsockname()[1]}")
        faults = findings(Config(output=str(tmp_path)))
    assert faults["address"].state == "fail"
    assert "no Ray cluster answers" in faults["address"].message
    assert faults["tracking"].state == "ok"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_hides_this_package_from_a_cluster_is_found(tmp_path, monkeypatch, without_ray):
    (tmp_path / "grmp_core.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    faults = findings(Config(output=str(tmp_path)))
    assert faults["search path"].state == "fail"
    assert "grmp_core.py" in faults["search path"].message
    monkeypatch.delenv("RAY_ADDRESS")
    assert driver_checks.check_search_path(None).state == "ok"


def test_a_temporary_folder_that_is_moved_and_a_home_that_cannot_be_written_are_warnings(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 20)))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")
    moved, home = driver_checks.check_temp_dir(), driver_checks.check_home()
    assert (moved.state, home.state) == ("warn", "warn")
    assert "too long for Ray's sockets" in moved.message
    assert "/dev/null/home" in home.message


def tracking(config: Config, num_nodes: int = 1) -> Finding:
    return driver_checks.check_tracking(config, num_nodes)


def test_a_store_that_is_not_there_yet_is_fine_for_one_node(tmp_path):
    config = Config(output=str(tmp_path / "new"))
    assert tracking(config).state == "ok"
    assert tracking(config, num_nodes=2).state == "warn"
    assert not list(tmp_path.iterdir())


def test_a_database_that_is_damaged_in_its_middle_is_found(mlflow_store, tmp_path):
    whole = Path(mlflow_store.output, "mlflow.db")
    config = Config(output=mlflow_store.output, tracking=TrackingConfig(uri=mlflow_store.uri))
    assert tracker_of(config).experiment_id
    assert tracking(config).state == "ok"
    content = bytearray(whole.read_bytes())
    content[8 * 4096 : 12 * 4096] = bytes(4 * 4096)
    (tmp_path / "mlflow.db").write_bytes(content)
    finding = tracking(Config(output=str(tmp_path)))
    assert finding.state == "fail"
    assert "is damaged" in finding.message
    assert "restore a backup" in finding.fix


def test_a_server_that_is_down_fails_the_check(tmp_path):
    finding = tracking(Config(output=str(tmp_path), tracking=TrackingConfig(uri="http://127.0.0.1:9")))
    assert finding.state == "fail"
    assert "no MLflow store answers" in finding.message


def test_an_unsupported_store_is_a_failed_check(tmp_path):
    config = Config(output=str(tmp_path), tracking=TrackingConfig(uri="databricks"))
    finding = cluster_checkup.checked("tracking", lambda: tracking(config))
    assert finding.state == "fail"
    assert "databricks" in finding.message


def test_whatever_the_start_of_ray_raises_is_a_finding(tmp_path, monkeypatch):
    def broken() -> None:
        raise TypeError("of a kind that nobody thought of")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster_checkup, "ray_session", broken)
    assert findings(Config(output=str(tmp_path)))["nodes"].message == "of a kind that nobody thought of"

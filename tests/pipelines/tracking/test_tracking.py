"""A sweep's folder becomes runs exactly once, whatever happens to MLflow meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import requests
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.configuration.models import TrackingConfig
from pipelines.reporting.sweep_report import write_report
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import search_frame
from pipelines.results.trial import SettingResult
from pipelines.tracking import catching_up, outbox
from pipelines.tracking.catching_up import log_outbox
from pipelines.tracking.run_writer import RunWriter
from pipelines.tracking.tracker import Tracker, open_tracking, tracker_of
from tests.pipelines.sweep_files import write_sweep
from tests.pipelines.tracking.folders import write_pretraining

SMALL = {"lambdas": (0,), "shots": (10,), "seeds": (0,), "n_test": 15, "images": False}
FAILED = "lambda=1-shots=20-seed=0"


@pytest.fixture
def sweep(tmp_path) -> Path:
    return write_sweep(tmp_path, lambdas=(0, 1), shots=(10, 20), seeds=(0,), n_test=15, fail=[FAILED], images=False)


def runs_of(tracker: Tracker) -> list[Run]:
    return list(tracker.client.search_runs([tracker.experiment_id]))


def trials_of(tracker: Tracker, parent: str) -> dict[str, Run]:
    nested = [run for run in runs_of(tracker) if run.data.tags.get("mlflow.parentRunId") == parent]
    assert all(count == 1 for count in Counter(run.info.run_name for run in nested).values())
    return {run.info.run_name: run for run in nested}


def test_trials_become_nested_runs_with_what_they_measured(config, sweep) -> None:
    tracker = open_tracking(config)
    parent = tracker.log("sweep", locate(sweep))
    trials = trials_of(tracker, parent)
    table = pd.read_parquet(sweep / "results.parquet").set_index("trial")
    assert set(trials) == set(table.index)
    run, row = trials["lambda=1-shots=10-seed=0"], table.loc["lambda=1-shots=10-seed=0"]
    assert run.data.params["lambda"] == "1.0"
    assert run.data.params["shots"] == "10"
    for metric in ("srcc", "plcc", "krcc", "rmse", "val_srcc", "seconds"):
        assert run.data.metrics[metric] == pytest.approx(row[metric])
    assert run.info.status == "FINISHED"
    failed = trials[FAILED]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["grmp.error"] == table.loc[FAILED, "error"]
    assert "srcc" not in failed.data.metrics


def test_settings_that_a_search_tried_become_nested_runs(config, sweep) -> None:
    manifest = json.loads((sweep / "manifest.json").read_text())
    manifest["inputs"]["search"] = "random search over adapt.lr"
    (sweep / "manifest.json").write_text(json.dumps(manifest))
    shared = {"shots": 20, "split_seed": 0, "seconds": 3.0}
    tried = [
        SettingResult(settings={"adapt.lr": 0.1}, val_srcc=0.4, epochs=5, **shared),
        SettingResult(settings={"adapt.lr": 0.9}, error="is nan", **shared),
    ]
    SweepFolder(locate(sweep)).write_search(search_frame(tried, tried[0]))
    tracker = open_tracking(config)
    trials = trials_of(tracker, tracker.log("sweep", locate(sweep)))
    assert {"adapt.lr=0.1", "adapt.lr=0.9"} < set(trials)
    won, failed = trials["adapt.lr=0.1"], trials["adapt.lr=0.9"]
    assert won.data.params == {"adapt.lr": "0.1", "shots": "20", "split_seed": "0"}
    assert won.data.metrics["val_srcc"] == pytest.approx(0.4)
    assert won.data.metrics["won"] == 1
    assert (failed.info.status, failed.data.tags["grmp.error"]) == ("FAILED", "is nan")
    before = {run.info.run_id for run in runs_of(tracker)}
    tracker.log("sweep", locate(sweep))
    assert {run.info.run_id for run in runs_of(tracker)} == before


def test_curves_are_logged_by_epoch(config, sweep) -> None:
    tracker = open_tracking(config)
    run = trials_of(tracker, tracker.log("sweep", locate(sweep)))["lambda=1-shots=10-seed=0"]
    history = json.loads((sweep / "trials" / "lambda=1-shots=10-seed=0" / "history.json").read_text())
    for name in ("quality_loss", "semantic_loss", "angle_deg", "projected_share"):
        logged = tracker.client.get_metric_history(run.info.run_id, f"epoch/{name}")
        assert [(m.step, m.value) for m in logged] == [(r["epoch"], pytest.approx(r[name])) for r in history["history"]]
    validation = tracker.client.get_metric_history(run.info.run_id, "epoch/val_srcc")
    assert [[m.step, m.value] for m in validation] == [[e, pytest.approx(v)] for e, v in history["val_srcc_by_epoch"]]


def test_parent_holds_configuration_commit_and_report(config, sweep) -> None:
    page = write_report(config)
    tracker = open_tracking(config)
    parent = tracker.client.get_run(tracker.log("sweep", locate(sweep)))
    assert parent.data.params["adapt.lr"] == "0.001"
    assert parent.data.tags["mlflow.source.git.commit"].startswith("0123456789")
    assert parent.data.tags["grmp.input.target"] == "sha256:feed"
    assert parent.data.metrics["trials"] == 4
    assert parent.data.metrics["failed"] == 1
    files = {item.path for item in tracker.client.list_artifacts(parent.info.run_id)}
    assert files >= {"report.html", "report.md", "results.parquet", "manifest.json", "config.yaml", "figures"}
    fetched = tracker.client.download_artifacts(parent.info.run_id, "report.html", str(Path(config.output)))
    assert Path(fetched).read_bytes() == Path(page.path_html).read_bytes()


def test_logging_twice_changes_nothing(config, sweep) -> None:
    parent = open_tracking(config).log("sweep", locate(sweep))
    before = {run.info.run_id: run.info.end_time for run in runs_of(open_tracking(config))}
    assert open_tracking(config).log("sweep", locate(sweep)) == parent
    assert {run.info.run_id: run.info.end_time for run in runs_of(open_tracking(config))} == before
    assert len(before) == 5


def test_a_retried_trial_replaces_its_run_and_no_other(config, sweep, tmp_path) -> None:
    tracker = open_tracking(config)
    parent = tracker.log("sweep", locate(sweep))
    before = trials_of(tracker, parent)
    write_sweep(tmp_path, lambdas=(0, 1), shots=(10, 20), seeds=(0,), n_test=15, images=False)
    assert tracker.log("sweep", locate(sweep)) == parent
    after = trials_of(tracker, parent)
    changed = {name for name in after if after[name].info.run_id != before[name].info.run_id}
    assert changed == {FAILED}
    assert after[FAILED].info.status == "FINISHED"
    assert tracker.client.get_run(parent).data.metrics["failed"] == 0


@pytest.mark.parametrize("dies_at", [1, 3, 6, 9])
def test_death_in_the_middle_leaves_nothing_twice(config, sweep, monkeypatch, capsys, dies_at: int) -> None:
    tracker = open_tracking(config)
    calls = iter(range(1, 1000))
    log_batch = tracker.client.log_batch

    def dying(*args, **kwargs):
        if next(calls) >= dies_at:
            raise MlflowException("connection refused")
        return log_batch(*args, **kwargs)

    monkeypatch.setattr(tracker.client, "log_batch", dying)
    assert tracker.log("sweep", locate(sweep)) == ""
    (entry,) = tracker.pending()
    assert (entry["kind"], entry["place"]) == ("sweep", str(sweep))
    assert "connection refused" in entry["reason"]
    assert "is on disk, but not in MLflow (connection refused); `grmp sync` logs it later" in capsys.readouterr().err
    (parent,) = log_outbox(config).runs
    fresh = open_tracking(config)
    assert len(trials_of(fresh, parent)) == 4
    assert len(runs_of(fresh)) == 5
    assert all("grmp.content" in run.data.tags for run in runs_of(fresh))
    assert log_outbox(config) == catching_up.Synced((), ())
    assert not (Path(config.output) / outbox.FILE).exists()


ERRORS = [
    OperationalError("INSERT INTO runs", {}, sqlite3.OperationalError("database or disk is full")),
    ModuleNotFoundError("No module named 'psycopg'", name="psycopg"),
    OSError(errno.ENOSPC, "No space left on device"),
    requests.ConnectionError("refused"),
    TypeError("of a kind that no one thought of"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["sweep", "pretrain"])
def test_whatever_tracking_raises_after_the_work_is_a_line_and_an_entry(
    config, tmp_path, monkeypatch, error, kind
) -> None:
    """Nothing is raised, so the command ends with 0: its results are on disk."""
    tracker = open_tracking(config)

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(RunWriter, "_create", fails)
    folder = write_pretraining(tmp_path) if kind == "pretrain" else write_sweep(tmp_path, **SMALL)
    assert tracker.log(kind, locate(folder)) == ""
    (entry,) = tracker.pending()
    assert (entry["kind"], entry["place"]) == (kind, str(folder))
    assert "\n" not in entry["reason"]
    assert "INSERT" not in entry["reason"]
    monkeypatch.undo()
    assert len(log_outbox(config).runs) == 1


def test_a_killed_process_leaves_the_entry_behind(config, sweep, monkeypatch) -> None:
    tracker = open_tracking(config)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        tracker.log("sweep", locate(sweep))
    assert [entry["reason"] for entry in tracker.pending()] == ["logging was interrupted"]


def test_a_list_that_cannot_be_written_is_told_and_nothing_else_is_lost(config, sweep, capsys, monkeypatch) -> None:
    (Path(config.output) / outbox.FILE).mkdir()
    tracker = open_tracking(config)
    assert tracker.log("sweep", locate(sweep))
    assert "is logged, but stays on the list" in capsys.readouterr().err
    monkeypatch.setattr(tracker, "_write", lambda *_: 1 / 0)
    assert tracker.log("sweep", locate(sweep)) == ""
    assert "run the command again to log it (" in capsys.readouterr().err


def test_one_folder_that_is_gone_does_not_keep_others_from_being_logged(config, sweep, tmp_path) -> None:
    untracked = outbox.Untracked(locate(tmp_path))
    untracked.add("pretrain", locate(tmp_path / "gone"), "away")
    untracked.add("sweep", locate(sweep), "away")
    synced = log_outbox(config)
    assert len(synced.runs) == 1
    (entry,) = synced.pending
    assert entry["place"] == str(tmp_path / "gone")


@pytest.mark.parametrize("own_store", [False, True])
def test_what_an_arm_of_an_ablation_could_not_log_is_logged_later(config, tmp_path, own_store) -> None:
    """Without a store that is named, the arm has its own."""
    arm = dataclasses.replace(config, output=str(tmp_path / "ablation" / "2 blocks"))
    if own_store:
        config, arm = (dataclasses.replace(one, tracking=TrackingConfig()) for one in (config, arm))
    place = write_sweep(Path(arm.output), **SMALL)
    outbox.Untracked(locate(arm.output)).add("sweep", locate(place), "away")
    gone = str(tmp_path / "ablation" / "4 blocks" / "sweep")
    outbox.Untracked(locate(gone).parent).add("sweep", locate(gone), "away")
    synced = log_outbox(config)
    assert [run.info.run_id for run in runs_of(tracker_of(arm)) if "mlflow.parentRunId" not in run.data.tags] == list(
        synced.runs
    )
    assert len(synced.runs) == 1
    assert [entry["place"] for entry in synced.pending] == [gone]
    assert not tracker_of(arm).pending()


def test_pretraining_is_one_run(config, tmp_path) -> None:
    folder = write_pretraining(tmp_path)
    tracker = open_tracking(config)
    run = tracker.log("pretrain", locate(folder))
    assert tracker.log("pretrain", locate(folder)) == run
    assert len(runs_of(tracker)) == 1
    logged = tracker.client.get_metric_history(run, "query_loss")
    assert [(m.step, m.value) for m in logged] == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3))]
    params = tracker.client.get_run(run).data.params
    assert params == {"meta.outer_lr": "0.01", "ablate.pretrained": "{'25 tasks + 10': 'there'}"}
    assert "bundle/bundle.json" in {item.path for item in tracker.client.list_artifacts(run, "bundle")}


def test_deleted_experiment_is_told_before_the_work_and_after_it_only_postpones(config, sweep) -> None:
    tracker = open_tracking(config)
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(InputError, match="is deleted; restore it"):
        open_tracking(config)
    assert tracker_of(config).log("sweep", locate(sweep)) == ""
    assert "is deleted" in tracker_of(config).pending()[0]["reason"]


@contextlib.contextmanager
def server(backend: str, artifacts: Path, port: int) -> Iterator[str]:
    """A real `mlflow server`, stopped at the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend, "--artifacts-destination", str(artifacts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert process.poll() is None, "mlflow server ended by itself"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_server_away_and_back_has_everything_once(config, sweep, tmp_path, mlflow_store, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    open_tracking(config).client.search_experiments()  # the store's tables are there before the server starts
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    remote = TrackingConfig(uri=f"http://127.0.0.1:{port}", experiment="served")
    away = dataclasses.replace(config, tracking=remote)
    assert open_tracking(away).log("sweep", locate(sweep)) == ""
    assert len(log_outbox(away).pending) == 1
    with server(mlflow_store.uri, tmp_path / "served", port):
        synced = log_outbox(away)
        assert synced.pending == ()
        tracker = open_tracking(away)
        assert len(trials_of(tracker, synced.runs[0])) == 4
        assert "results.csv" in {item.path for item in tracker.client.list_artifacts(synced.runs[0])}
    assert open_tracking(away).log("sweep", locate(sweep)) == ""
    assert len(open_tracking(away).pending()) == 1

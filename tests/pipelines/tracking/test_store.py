"""Where runs are kept, and whether that can work: told in one line, before the work, within seconds."""

from __future__ import annotations

import http.server
import os
import shutil
import sqlite3
import sys
import threading
import types
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis.strategies as st
import mlflow
import pytest
from hypothesis import given
from sqlalchemy.engine import make_url

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.configuration.models import RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.scoring.model_lookup import resolve_model
from pipelines.scoring.registered_models import as_current
from pipelines.tracking import store_check
from pipelines.tracking.store_address import sqlite_uri, store_address
from pipelines.tracking.tracker import open_tracking, tracker_of
from tests.pipelines.sweep_files import write_sweep

SMALL = {"lambdas": (0,), "shots": (10,), "seeds": (0,), "n_test": 15, "images": False}


def tracked(output: Path | str, uri: str | None = None) -> Config:
    return Config(output=str(output), tracking=TrackingConfig(uri=uri))


# --- the address -----------------------------------------------------------------------------------------------------


def test_default_store_is_a_file_in_the_output_wherever_one_stands(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = store_address(Config(output="here"))
    assert address.uri == f"sqlite:///{tmp_path}/here/mlflow.db"
    assert address.artifacts == f"file://{tmp_path}/here/mlartifacts"
    assert store_address(tracked("here", "sqlite:///there.db")).uri == f"sqlite:///{tmp_path}/there.db"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_address(tracked("here", "sqlite:///~/mine.db")).database == tmp_path / "mine.db"


def test_environment_names_the_store_unless_the_configuration_does(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    address = store_address(tracked(tmp_path))
    assert (address.uri, address.setting) == ("http://mlflow.example:5000", "MLFLOW_TRACKING_URI")
    assert store_address(tracked(tmp_path, "http://other.example")).uri == "http://other.example"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    assert store_address(tracked(tmp_path)).database == tmp_path / "mlflow.db"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("./mlruns", r"'\./mlruns' is a folder.*; use sqlite:///mlruns/mlflow\.db"),
        ("/data/runs", r"is a folder.*; use sqlite:////data/runs/mlflow\.db"),
        ("file:/data/my%20runs", r"is a folder.*; use sqlite:////data/my runs/mlflow\.db"),
        ("databricks", r"'databricks' is no store that is supported here; give an MLflow server"),
        ("databricks://profile", "is no store that is supported here"),
        ("arn:aws:sagemaker:eu-west-1:1234:mlflow-tracking-server/x", "is no store that is supported here"),
        ("oracle://user:secret@host/x", r"'oracle://user:\*\*\*@host/x' is no store that is supported here"),
        ("sqlite://", "in memory only; name a file"),
        ("sqlite:///:memory:", "in memory only; name a file"),
        ("sqlite:////data/out?v=1/m.db", r"'\?' begins options.*; write sqlite:////data/out%3Fv=1/m\.db"),
        ("http://host:port", "is no address of a server"),
        ("https://", "is no address of a server"),
        ("postgresql://user@host:port/x", "is no address of a database"),
    ],
)
def test_stores_that_cannot_work_are_refused_with_the_fix(tmp_path, uri, message) -> None:
    with pytest.raises(InputError, match=f"tracking.uri.*{message}") as caught:
        store_address(tracked(tmp_path, uri))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_remote_output_needs_a_server() -> None:
    with pytest.raises(InputError, match="give the address of an MLflow server"):
        store_address(tracked("s3://bucket/runs?region=us-east-1"))


@given(st.text(st.characters(min_codepoint=32, exclude_characters="/\x7f", exclude_categories=["Cs"]), min_size=1))
def test_every_path_has_an_address_that_names_it(name) -> None:
    assert make_url(sqlite_uri(Path("/data", name, "mlflow.db"))).database == f"/data/{name}/mlflow.db"


def test_outputs_with_odd_names_have_a_store_and_files_each(mlflow_store, tmp_path, monkeypatch) -> None:
    """`?` would begin options, so that the first two shared the file `out`; of `%`, MLflow would make other folders."""
    monkeypatch.chdir(tmp_path)
    assert tracker_of(tracked(mlflow_store.output, mlflow_store.uri)).client  # makes the tables
    runs = {}
    for name in ("out?v=1", "out?v=2", "50% ü#1"):
        config = Config(output=str(tmp_path / name), tracking=TrackingConfig(experiment="of an odd name"))
        (tmp_path / name).mkdir()
        shutil.copy(Path(mlflow_store.output, "mlflow.db"), tmp_path / name)  # making the tables takes long
        sweep = write_sweep(tmp_path / name, **SMALL)
        tracker = open_tracking(config)
        runs[name] = tracker.log("sweep", locate(sweep))
        assert runs[name]
        names = {file.path for file in open_tracking(config).client.list_artifacts(runs[name])}
        assert "results.csv" in names
        assert list((tmp_path / name / "mlartifacts").rglob("results.csv"))
        with sqlite3.connect(tmp_path / name / "mlflow.db") as base:
            ids = {row[0] for row in base.execute("SELECT run_uuid FROM runs")}
        assert runs[name] in ids
    assert len(set(runs.values())) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(runs)


# --- whether it works ------------------------------------------------------------------------------------------------


def refusal(config: Config) -> str:
    with pytest.raises(InputError) as caught:
        open_tracking(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_looking_at_a_store_makes_nothing(tmp_path) -> None:
    open_tracking(tracked(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_asking_for_a_model_makes_no_store(tmp_path) -> None:
    config = Config(output=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"no model 'grmp-iqa'; .* --model backbone"):
        resolve_model("models:/grmp-iqa@champion", config)
    assert list(tmp_path.rglob("*")) == []


def test_files_that_are_no_database_are_refused(tmp_path) -> None:
    (tmp_path / "mlflow.db").write_text("a text of more than a hundred characters, which is no database of SQLite " * 3)
    assert "mlflow.db is damaged (file is not a database); restore a backup" in refusal(tracked(tmp_path))
    assert "set tracking.uri to a file elsewhere" in refusal(tracked(tmp_path))
    (tmp_path / "folder" / "mlflow.db").mkdir(parents=True)
    assert "mlflow.db is a folder" in refusal(tracked(tmp_path / "folder"))
    assert "mlflow.db is a file" in refusal(tracked(tmp_path / "x", f"sqlite:///{tmp_path}/mlflow.db/mlflow.db"))


def test_files_and_folders_without_the_right_to_write_and_full_disks_are_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "mlflow.db").touch()
    for locked in (tmp_path, tmp_path / "mlflow.db"):
        monkeypatch.setattr(os, "access", lambda path, mode, locked=locked: path != locked)
        assert f"no right to write {locked}; set tracking.uri" in refusal(tracked(tmp_path))
    monkeypatch.undo()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 2_000_000, 2_000_000))
    assert "has 2 MB free; free space there" in refusal(tracked(tmp_path / "new"))


def test_a_file_that_another_process_writes_is_in_order(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(store_check, "CONNECT_SECONDS", 0)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as base:
        base.execute("CREATE TABLE t (x)")
        base.execute("BEGIN EXCLUSIVE")
        assert store_check.store_problem(store_address(tracked(tmp_path))) is None


def test_a_missing_driver_is_told_with_its_package(tmp_path, monkeypatch) -> None:
    text = refusal(tracked(tmp_path, "mssql+pyodbc://user:secret@127.0.0.1:9/runs"))
    assert "needs the Python package pyodbc, which is not installed; pip install 'pyodbc'" in text
    assert "secret" not in text
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper available')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "cannot be loaded (no pq wrapper available)" in refusal(tracked(tmp_path, "postgresql://user@host/runs"))
    assert "driver that SQLAlchemy does not know" in refusal(tracked(tmp_path, "postgresql+nothing://host/runs"))


class FakeDriver(types.ModuleType):
    """As much of PyMySQL as SQLAlchemy asks for."""

    paramstyle = "format"
    __version__ = "1.1.0"
    Error = OperationalError = ProgrammingError = InterfaceError = InternalError = type("Error", (Exception,), {})

    def connect(self, **settings: object) -> object:
        raise self.Error(1045, "Access denied for user")


def test_a_database_that_is_down_postpones_and_one_that_refuses_is_refused(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", FakeDriver("pymysql"))
    down = tracked(tmp_path, "mysql+pymysql://user:secret@127.0.0.1:9/runs")
    tracker = open_tracking(down)
    line = capsys.readouterr().err
    assert "no MLflow store answers at mysql+pymysql://user:***@127.0.0.1:9/runs (Connection refused)" in line
    sweep = write_sweep(tmp_path, **SMALL)
    assert tracker.log("sweep", locate(sweep)) == ""
    assert [entry["kind"] for entry in tracker.pending()] == ["sweep"]
    with server(200) as port:
        text = refusal(tracked(tmp_path, f"mysql+pymysql://user:secret@127.0.0.1:{port}/runs"))
    assert "refuses: (1045, 'Access denied for user'); correct tracking.uri (user, password, name)" in text
    assert "secret" not in text + line


@contextmanager
def server(status: int) -> Iterator[int]:
    """A web server that is no MLflow; -> its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the library's
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>Invalid Host header")

        do_POST = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_a_server_that_refuses_or_is_another_is_refused_before_the_work(tmp_path, status) -> None:
    with server(status) as port:
        text = refusal(tracked(tmp_path, f"http://127.0.0.1:{port}"))
    assert f"MLflow at http://127.0.0.1:{port} does not work: " in text
    assert "correct tracking.uri" in text


def test_a_server_in_trouble_may_be_well_later(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server(503) as port:
        open_tracking(tracked(tmp_path, f"http://127.0.0.1:{port}"))
    assert "`grmp sync` logs them later" in capsys.readouterr().err


def test_work_that_needs_the_store_does_not_begin_without_it(tmp_path) -> None:
    with pytest.raises(InputError, match=r"model m cannot be fetched: no MLflow store answers .*start it or correct"):
        open_tracking(tracked(tmp_path, "http://127.0.0.1:9"), needed_for="model m cannot be fetched")


def test_patience_of_the_client_is_short_unless_it_is_set(tmp_path, monkeypatch) -> None:
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in names:
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv(names[1], "77")
    tracker_of(tracked(tmp_path))
    assert [os.environ[name] for name in names] == ["2", "77"]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a#b", "a@b", "a/b", "a:b", "a?b", "a'b", " ", " a", "a\nb", "..", "a" * 81])
def test_model_names_that_no_address_can_hold_are_refused(name) -> None:
    with pytest.raises(InputError, match=r"register\.name .*: use at most 80 letters, digits"):
        RegisterConfig(name=name)


@pytest.mark.parametrize("name", ["  ", "a\nb", "a" * 257])
def test_experiment_names_are_checked(name) -> None:
    with pytest.raises(InputError, match=r"tracking\.experiment .*: use 1 to 256"):
        TrackingConfig(experiment=name)


@pytest.mark.parametrize("name", ["grmp-iqa", "my model", "ünï.v2", "x", "_a-"])
def test_every_name_that_is_taken_can_be_loaded(mlflow_store, tmp_path, name) -> None:
    assert RegisterConfig(name=name).name == name
    tracker = tracker_of(tracked(mlflow_store.output, mlflow_store.uri))
    tracker.client.create_registered_model(name)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "file").touch()
    version = tracker.client.create_model_version(name, (tmp_path / "model").as_uri()).version
    tracker.client.set_registered_model_alias(name, "champion", version)
    with as_current(tracker):
        for uri in (f"models:/{name}@champion", f"models:/{name}/{version}"):
            assert os.listdir(mlflow.artifacts.download_artifacts(artifact_uri=uri)) == ["file"]

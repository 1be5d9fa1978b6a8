"""Faults of the environment are told in seconds, in one line, or worked around before Ray is started."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from grmp_core.errors import InputError
from pipelines.runtime import environment
from pipelines.runtime.cluster_address import cluster_address
from pipelines.runtime.environment import Fault, TempDir, address_fault, temp_dir
from pipelines.runtime.ray_session import ray_session

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("blank", ["", "  ", "local", None])
def test_a_blank_address_means_this_machine(monkeypatch, blank):
    if blank is not None:
        monkeypatch.setenv("RAY_ADDRESS", blank)
    assert cluster_address() is None


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "RAY_ADDRESS=somewhere is not of the form host:port"),
        ("127.0.0.1:abc", "is not of the form host:port"),
        ("127.0.0.1:0", "is not of the form host:port"),
        (":6379", "is not of the form host:port"),
        ("http://127.0.0.1:8265", "is the address of a dashboard"),
        ("ray://127.0.0.1:10001", "is no address of a cluster's head"),
        ("no-such-host.invalid:6379", "no Ray cluster answers at RAY_ADDRESS=no-such-host.invalid:6379"),
    ],
)
def test_an_odd_address_is_one_line_with_the_fix(address, message):
    fault = address_fault(address)
    assert fault is not None
    assert message in fault.problem
    assert "\n" not in str(fault)
    assert fault.fix


def test_a_port_where_nothing_listens_ends_the_session_at_once(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was asked to join"))
        with (
            pytest.raises(InputError, match=r"no Ray cluster answers at .* \(Connection refused\); start the cluster"),
            ray_session(),
        ):
            pass


def test_another_kind_of_server_is_no_ray_head(monkeypatch):
    monkeypatch.setattr(environment, "HANDSHAKE_SECONDS", 0.5)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fault = address_fault(f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert fault is not None
    assert "what listens there is no Ray head" in fault.problem


def test_auto_without_a_cluster_on_this_machine(monkeypatch):
    def nothing(address: str) -> str:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(environment, "canonicalize_bootstrap_address", nothing)
    fault = address_fault("auto")
    assert fault is not None
    assert "no Ray cluster runs on this machine" in fault.problem


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_temporary_folder_that_fits_is_used_and_one_that_does_not_is_replaced(monkeypatch, tmp_path, name):
    monkeypatch.setattr(environment, "SHORT_TEMP_DIR", Path("/tmp/ray"))
    assert temp_dir() == TempDir(Path("/tmp/ray"))
    long = tmp_path / "job_1234567890" / ("scratch" * 10)
    monkeypatch.setenv(name, str(long))
    moved = temp_dir()
    assert isinstance(moved, TempDir)
    assert moved.path == Path("/tmp/ray")
    assert f"{name}: {long}/ray is too long" in str(moved.note)
    assert not long.exists()


def test_the_limit_is_that_of_a_socket(monkeypatch):
    """The kernel takes the longest path that is let through, and no byte more."""
    room = environment.MAX_SOCKET_BYTES - len(environment._SOCKET) - 1
    path = f"/tmp/{'x' * (room - 5)}/{environment._SOCKET}"
    assert len(path) == environment.MAX_SOCKET_BYTES
    with socket.socket(socket.AF_UNIX) as unix:
        with pytest.raises(FileNotFoundError):
            unix.bind(path)
        with pytest.raises(OSError, match="too long"):
            unix.bind(path + "x")


def test_a_long_tmpdir_is_put_aside_while_processes_start(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("scratch" * 15)))
    with environment.short_tmpdir():
        assert os.environ["TMPDIR"] == "/tmp"
    assert os.environ["TMPDIR"] == str(tmp_path / ("scratch" * 15))
    for kept in ("/scratch/job", None):
        monkeypatch.setenv("TMPDIR", kept) if kept else monkeypatch.delenv("TMPDIR")
        with environment.short_tmpdir():
            assert os.environ.get("TMPDIR") == kept


def test_without_any_usable_folder_the_fix_is_told(monkeypatch):
    monkeypatch.setattr(environment, "SHORT_TEMP_DIR", Path("/dev/null/ray"))
    monkeypatch.setenv("TMPDIR", "/dev/null/tmp")
    fault = temp_dir()
    assert isinstance(fault, Fault)
    assert "cannot be made (Not a directory)" in fault.problem
    assert "set RAY_TMPDIR" in fault.fix


def test_ray_gets_a_token_where_the_home_cannot_keep_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.token_without_home() is None
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    assert environment.token_without_home() is None
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert "HOME=/dev/null/home cannot be written" in str(environment.token_without_home())
    assert len(os.environ["RAY_AUTH_TOKEN"]) >= 32


def test_only_modules_that_hide_this_package_count(monkeypatch, tmp_path):
    assert environment.shadowing_modules(ROOT) == []
    (tmp_path / "pipelines").mkdir()
    assert environment.shadowing_modules(tmp_path) == []  # a folder of data hides nothing
    (tmp_path / "pipelines" / "__init__.py").touch()
    (tmp_path / "grmp_core.py").touch()
    monkeypatch.chdir(tmp_path)
    fault = environment.search_path_fault("10.0.0.1:6379")
    assert fault is not None
    assert "start the command in another folder" in fault.fix
    assert environment.search_path_fault(None) is None


def test_a_ray_that_does_not_start_in_time_is_one_line(monkeypatch, tmp_path):
    def too_late(**_):
        raise Exception("The current node timed out during startup. This could happen because")  # Ray's

    monkeypatch.setattr("ray.init", too_late)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="did not start within 30 s"), ray_session():
        pass


@pytest.mark.ray
def test_ray_starts_in_a_folder_with_modules_of_the_same_names_and_in_a_hostile_environment(tmp_path):
    """In one start: own `pipelines.py` and `utils.py`, a TMPDIR as SLURM makes it, no home, and a blank address."""
    for name in ("pipelines", "grmp_core", "utils"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the user was imported')")
    code = (
        "import os, ray\n"
        "from pipelines.runtime.provenance import versions\n"
        "from pipelines.runtime.ray_session import ray_session\n"
        "with ray_session():\n"
        "    print(sorted(ray.get(ray.remote(versions).remote()))[0])\n"
        "    print(ray.get(ray.remote(lambda: os.getcwd()).remote()))\n"
    )
    long = tmp_path / "job_1234567890" / ("scratch" * 10)
    environment = {
        **os.environ,
        "TMPDIR": str(long),
        "HOME": "/dev/null/home",
        "RAY_ADDRESS": "",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["grmp-iqa", str(tmp_path)]
    assert f"ray: TMPDIR: {long}/ray is too long" in done.stderr
    assert "ray: HOME=/dev/null/home cannot be written" in done.stderr
    assert "Traceback" not in done.stderr

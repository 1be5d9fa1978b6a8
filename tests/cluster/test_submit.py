"""`python -m cluster.submit`: its options, the server's answers, and the job's end."""

from __future__ import annotations

import http.server
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from ray._private.thirdparty.pathspec import PathSpec  # reads `excludes` when a folder is uploaded
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from cluster import submit
from cluster.processes import free_ports
from grmp_core.errors import InputError


@pytest.fixture(autouse=True)
def no_ray_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", submit.DEFAULT_ADDRESS)  # put back after `connect` has set it
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", *submit.HANDED_ON):
        monkeypatch.delenv(name, raising=False)


def request(*options: str, command: tuple[str, ...] = ("true",), **environment: str) -> submit.Request:
    return submit.request_of(submit.options_parser().parse_args(options), command, environment)


def test_the_command_is_what_follows_the_first_dashes():
    assert submit.split_at_dashes(["--no-wait", "--", "sh", "-c", "a -- b", "--"]) == (
        ["--no-wait"],
        ["sh", "-c", "a -- b", "--"],
    )
    assert submit.split_at_dashes(["--no-wait"]) == (["--no-wait"], [])


def test_the_upload_leaves_out_what_changes_and_what_is_asked_for():
    sent = request("--exclude", "photos", "--exclude", "*.tif").runtime_env()
    assert sent["working_dir"] == "."
    assert {".git", ".venv", "runs", "*.db", "*.log", "photos", "*.tif"} <= set(sent["excludes"])
    assert "working_dir" not in request("--no-working-dir").runtime_env()


def test_pipes_sockets_and_devices_are_left_out_and_named(tmp_path, capsys):
    """Ray itself would wait for ever for a pipe's other end."""
    (tmp_path / "deep er" / "runs").mkdir(parents=True)
    (tmp_path / "file.txt").write_text("is sent")
    pipes = ["pipe", "deep er/odd [name]?*", "deep er/runs/excluded", "out.log"]
    for name in pipes:
        os.mkfifo(tmp_path / name)
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "deep er" / "circle").symlink_to(tmp_path)
    sent = request("--working-dir", str(tmp_path)).runtime_env()
    line = capsys.readouterr().err
    assert line == "submit: left out of the upload, since no ordinary files: deep er/odd [name]?*, null, pipe\n"
    matches = PathSpec.from_lines("gitwildmatch", sent["excludes"]).match_file
    assert all(matches(name) for name in (*pipes, "null"))
    assert not any(matches(name) for name in ("file.txt", "deep er/odd n?x", "deep er/pipe", "dangling"))


def test_addresses_are_handed_on_and_secrets_only_by_name():
    here = {"MLFLOW_TRACKING_URI": "http://m:5000", "AWS_REGION": "eu-central-1", "AWS_SECRET_ACCESS_KEY": "s"}
    assert request(**here).environment == {"MLFLOW_TRACKING_URI": "http://m:5000", "AWS_REGION": "eu-central-1"}
    asked = request("--env", "AWS_SECRET_ACCESS_KEY", "--env", "AWS_REGION=us-east-1", "--env", "A=b=c", **here)
    assert asked.environment == {
        "MLFLOW_TRACKING_URI": "http://m:5000",
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "s",
        "A": "b=c",
    }


def test_the_token_is_looked_for_where_ray_looks(tmp_path):
    for name in ("given", "named"):
        (tmp_path / name).write_text(f"{name}\n")
    named = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "named")}
    assert submit.find_token(None, {}) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("default")
    assert submit.find_token(None, {}) == "default"
    assert submit.find_token(None, named) == "named"
    assert submit.find_token(None, {**named, "RAY_AUTH_TOKEN": "variable"}) == "variable"
    assert submit.find_token(str(tmp_path / "given"), {**named, "RAY_AUTH_TOKEN": "variable"}) == "given"


@pytest.mark.parametrize(
    ("options", "command", "message"),
    [
        ([], (), "nothing to run"),
        (["--address", "head:6379"], ("true",), "is no URL"),
        (["--working-dir", "nowhere"], ("true",), "working dir nowhere is no folder"),
        (["--token-file", "nowhere"], ("true",), "token file nowhere cannot be read"),
        (["--token-file", "/dev/null"], ("true",), "is empty"),
        (["--env", "NOT_SET_HERE"], ("true",), "it is not set here"),
        (["--env", "a b=c"], ("true",), "write NAME=VALUE"),
    ],
)
def test_bad_options_are_one_line_with_the_remedy(options, command, message):
    with pytest.raises(InputError, match=message) as caught:
        request(*options, command=command)
    assert "\n" not in str(caught.value)


def test_an_address_where_nothing_listens_is_one_line_and_code_2(capsys):
    (port,) = free_ports(1, "127.0.0.1")
    assert submit.main(["--address", f"http://127.0.0.1:{port}", "--", "true"]) == 2
    assert capsys.readouterr().err.startswith(f"submit: no server answers at http://127.0.0.1:{port}; ")


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that is no Ray dashboard."""

    def do_GET(self) -> None:  # the name is the library's
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_another_kind_of_server_is_named_as_such(capsys):
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert submit.main(["--address", f"http://127.0.0.1:{server.server_port}", "--", "true"]) == 2
        server.shutdown()
    assert "is no Ray dashboard" in capsys.readouterr().err


@dataclass
class Details:
    status: JobStatus
    driver_exit_code: int | None = None
    message: str | None = None


@dataclass
class Client:
    """Stands in for a server whose answers a test decides: the last one is given again and again."""

    answers: list[Any]
    log: list[Any] = field(default_factory=list)
    submitted: dict[str, Any] = field(default_factory=dict)

    def submit_job(self, **job: Any) -> str:
        self.submitted = job
        return "job-1"

    async def tail_job_logs(self, job: str):
        for text in self.log:
            if isinstance(text, BaseException):
                raise text
            yield text

    def get_job_info(self, job: str) -> Details:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("details", "code", "said"),
    [
        (Details(JobStatus.SUCCEEDED, 0), 0, ""),
        (Details(JobStatus.FAILED, 2, "exit code 2"), 2, ""),
        (
            Details(JobStatus.FAILED, 1, "It failed with exit code 1:\nTraceback"),
            1,
            "FAILED: It failed with exit code 1\n",
        ),
        (Details(JobStatus.FAILED, None, "runtime_env setup failed"), 1, "runtime_env setup failed"),
        (Details(JobStatus.STOPPED, -15), 1, "STOPPED"),
    ],
)
def test_the_exit_code_is_the_jobs(quick, capsys, details, code, said):
    client = Client([Details(JobStatus.RUNNING), details], log=["one\n", "two\n"])
    assert submit.follow(client, "job-1", "http://head") == code
    shown = capsys.readouterr()
    assert shown.out == "one\ntwo\n"
    assert said in shown.err


def test_a_broken_log_and_a_head_that_is_away_for_a_moment_do_not_end_the_waiting(quick, capsys):
    refused = RuntimeError("Request failed with status code 503: Service Unavailable.")
    expired = AuthenticationError("the token has changed")
    answers = [requests.ConnectionError("gone"), ConnectionError("gone"), refused, expired]
    answers += [Details(JobStatus.SUCCEEDED, 0)]
    client = Client(answers, log=["one\n", RuntimeError("WebSocket connection closed")])
    assert submit.follow(client, "job-1", "http://head") == 0
    assert "waiting for the end of job-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ConnectionError("gone"), "(gone)"),
        (
            RuntimeError("Request failed with status code 500: Traceback:\n  File x"),
            "(Request failed with status code 500",
        ),
    ],
)
def test_a_head_that_stays_away_or_broken_is_given_up(quick, monkeypatch, capsys, error, reason):
    monkeypatch.setattr(submit, "PATIENCE_S", -1)
    monkeypatch.setattr(submit, "connect", lambda request: Client([error]))
    assert submit.main(["--no-working-dir", "--address", "http://head", "--", "true"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("submit: http://head has not told the state of job-1 for -1 s ")
    assert reason in line
    assert line.endswith("`ray job status --address http://head job-1`")


def test_the_entrypoint_keeps_its_quotes_and_no_wait_prints_the_id(monkeypatch, capsys):
    client = Client([Details(JobStatus.RUNNING)])
    monkeypatch.setattr(submit, "connect", lambda request: client)
    command = ["python", "-m", "pipelines.sweep", "--set", "sweep.shots=[25, 50]"]
    assert submit.main(["--no-wait", "--no-working-dir", "--", *command]) == 0
    assert client.submitted["entrypoint"] == "python -m pipelines.sweep --set 'sweep.shots=[25, 50]'"
    assert capsys.readouterr().out == "job-1\n"


def test_a_folder_that_ray_cannot_pack_is_named(monkeypatch):
    client = Client([])
    monkeypatch.setattr(client, "submit_job", lambda **job: (_ for _ in ()).throw(ValueError("Package size exceeds")))
    with pytest.raises(InputError, match=r"working dir \.: Package size exceeds; --exclude more"):
        submit.submit(client, request())

"""Every batch command as a job on two nodes with its output in a bucket; its driver is killed once, and run again."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load

from cluster.local_nodes import LocalCluster
from grmp_core.procedural import scenes
from grmp_core.storage import Location, locate
from pipelines.cli import COMMANDS
from tests.cluster.commands import JOBS, NO_JOBS, NUM_IMAGES, SETTINGS, TARGET, command_line
from tests.cluster.conftest import ROOT, client_environment
from tests.s3_server import s3_server

ALONE, KILLED = "alone", "killed"
"""Runs: all commands undisturbed in one process, and each as jobs of its own."""
_OF_THE_MOMENT = ("seconds", "created_utc", "hours")


@dataclass(frozen=True)
class Jobs:
    """A cluster, a bucket with a labelled target, and the outcome of an undisturbed run of every command."""

    cluster: LocalCluster
    folder: Path
    server: dict[str, str]

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        names = [part for name in self.server for part in ("--env", name)]
        options = ["--address", self.cluster.dashboard_url, "--token-file", str(self.cluster.token_file), *names]
        return subprocess.run(
            [sys.executable, "-m", "cluster.submit", *options, "--no-working-dir", "--", "python", "-m", *command],
            cwd=ROOT,
            env={**client_environment(self.folder), **self.server},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )


@pytest.fixture(scope="module")
def jobs(cluster, tmp_path_factory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("every")
    settings = {**SETTINGS, "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"}}
    (folder / "jobs.yaml").write_text(yaml.safe_dump(settings))
    (folder / "first.yaml").write_text(yaml.safe_dump({"target": SETTINGS["target"]}))
    with s3_server("jobs") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.items():
            patch.setenv(name, value)
        upload_target()
        jobs = Jobs(cluster, folder, server)
        done = jobs.submit("tests.cluster.drivers", "all", ALONE, str(folder))
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        yield jobs


def upload_target() -> None:
    for i in range(NUM_IMAGES):
        picture = cv2.cvtColor(scenes.reference(500 + i, 230, 240), cv2.COLOR_RGB2BGR)
        locate(f"{TARGET}/{i}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    frame = pd.DataFrame({"image": [f"{i}.png" for i in range(NUM_IMAGES)], "mos": np.linspace(1, 9, NUM_IMAGES)})
    locate(f"{TARGET}/labels.csv").write_bytes(frame.to_csv(index=False).encode())


def test_every_command_is_a_job_or_has_a_reason_not_to_be() -> None:
    assert JOBS.keys() | NO_JOBS.keys() == COMMANDS.keys()
    assert not JOBS.keys() & NO_JOBS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_killed_driver_that_runs_again_gives_the_same_results(jobs: Jobs, name: str) -> None:
    copy_missing(JOBS[name].needs)
    arguments = command_line(name, KILLED, str(jobs.folder))
    died = jobs.submit("tests.cluster.drivers", "die", str(JOBS[name].dies_after), name, *arguments)
    assert died.returncode != 0
    assert "killed a" in died.stdout, died.stdout[-4000:] + died.stderr[-2000:]
    again = jobs.submit(f"pipelines.{name}", *arguments)
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr[-2000:]
    alone = (locate(f"s3://jobs/{ALONE}") / "printed" / f"{name}.json").read_json()
    assert alone["code"] == 0
    ignored = (*_OF_THE_MOMENT, *JOBS[name].unlike)
    ours, expected = (plain(printed_json(text), ignored) for text in (again.stdout, alone["printed"]))
    assert_close(ours, expected, name)
    for file in JOBS[name].results:
        ours, expected = (content(locate(f"s3://jobs/{run}") / file) for run in (KILLED, ALONE))
        assert_close(ours, expected, file)


def copy_missing(needed: tuple[str, ...]) -> None:
    """Copy the results of earlier commands where these have not run here: each test stands for itself."""
    alone, killed = locate(f"s3://jobs/{ALONE}"), locate(f"s3://jobs/{KILLED}")
    for file in alone.list(recursive=True):
        name = file.uri.removeprefix(f"{alone.uri}/")
        if any(name == need or name.startswith(f"{need}/") for need in needed) and not (killed / name).exists():
            (killed / name).write_bytes(file.read_bytes())


def printed_json(text: str) -> Any:
    """The last JSON object of a log."""
    lines = text.splitlines()
    first, last = (max(i for i, line in enumerate(lines) if line == brace) for brace in "{}")
    return json.loads("\n".join(lines[first : last + 1]))


def plain(value: Any, ignored: tuple[str, ...]) -> Any:
    """Without what is of one run alone: its output's address and name, and times."""
    if isinstance(value, dict):
        return {plain(key, ignored): plain(inner, ignored) for key, inner in value.items() if key not in ignored}
    if isinstance(value, list):
        return [plain(inner, ignored) for inner in value]
    if isinstance(value, str):
        for run in (ALONE, KILLED):
            value = "output" if value == run else value.replace(f"s3://jobs/{run}", "output")
    return value


def content(file: Location) -> Any:
    data = file.read_bytes()
    if file.name.endswith(".safetensors"):
        return {name: array.astype(float).tolist() for name, array in load(data).items()}
    if file.name.endswith(".parquet"):
        frame = pd.read_parquet(io.BytesIO(data))
        return plain(json.loads(frame.to_json(orient="records", double_precision=15)), _OF_THE_MOMENT)
    if file.name.endswith(".json"):
        return plain(json.loads(data), _OF_THE_MOMENT)
    if file.name.endswith(".csv"):
        frame = pd.read_csv(io.BytesIO(data))
        return plain(json.loads(frame.to_json(orient="records", double_precision=15)), _OF_THE_MOMENT)
    return None  # a page or a picture: it is there


def assert_close(ours: Any, expected: Any, where: str) -> None:
    """Equal but for the last bits of numbers."""
    if isinstance(expected, dict):
        assert ours.keys() == expected.keys(), where
        for key, inner in expected.items():
            assert_close(ours[key], inner, f"{where}: {key}")
    elif isinstance(expected, list):
        assert len(ours) == len(expected), where
        for one, inner in zip(ours, expected, strict=True):
            assert_close(one, inner, where)
    elif isinstance(expected, float):
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-7), where
    else:
        assert ours == expected, where

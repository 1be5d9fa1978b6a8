"""Drivers of jobs that tests submit.

`python -m tests.cluster.drivers die COUNT COMMAND …` is a command that is killed once it has written COUNT files, and
`python -m tests.cluster.drivers all RUN FOLDER` every command of `commands.JOBS` in one process, undisturbed.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys

from grmp_core.storage import Location, locate
from pipelines.cli import run_command
from pipelines.runtime.ray_session import ray_session
from tests.cluster.commands import JOBS, command_line


def die(count: int, name: str, arguments: list[str]) -> None:
    """SIGKILL, as by a machine that is short of memory."""
    write, written = Location.write_bytes, []

    def write_and_die(self: Location, data: bytes) -> None:
        write(self, data)
        written.append(self.uri)
        if len(written) == count:
            print(f"killed after {self.uri}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    Location.write_bytes = write_and_die  # type: ignore[method-assign]
    run_command(name, arguments)
    print("killed at the end", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def run_all(run: str, folder: str) -> None:
    """Keep exit code and output of every command in `s3://jobs/<run>/printed`."""
    with ray_session():
        for name in JOBS:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = run_command(name, command_line(name, run, folder))
            print(f"{name}: {code}", flush=True)
            result = {"code": code, "printed": printed.getvalue()}
            (locate(f"s3://jobs/{run}") / "printed" / f"{name}.json").write_json(result)


if __name__ == "__main__":
    if sys.argv[1] == "die":
        die(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    run_all(*sys.argv[2:])

"""Processes of this machine: found again by id, ended one by one, never by a broad name."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

STOP_TIMEOUT_S = 10


@dataclass(frozen=True)
class Node:
    """One `ray start --block`. The creation time tells its process from a later one with the same id."""

    index: int
    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """The process, or None once it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None


def free_ports(count: int, host: str) -> list[int]:
    """Ports that nothing listens on; all different, since they are held until the last is found."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(condition: Callable[[], bool], timeout_s: float, poll_s: float = 0.2) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """The process and all it has started, directly or not."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL to all of them; returns when they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)


def end(processes: Sequence[psutil.Process]) -> None:
    """SIGTERM, which `ray start --block` passes on to all it started; SIGKILL for what is left."""
    everything = [one for process in processes for one in with_descendants(process)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(everything, timeout=STOP_TIMEOUT_S)
    kill(left)


def last_line(log: Path) -> str:
    """The last lines of a log, and its path."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1]} ({log})" if lines else f"nothing in {log}"

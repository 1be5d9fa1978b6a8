"""Whether Ray can start here or reach its cluster: RAY_ADDRESS, the temporary folder, HOME, the current folder.

Ray itself meets these faults with a traceback or with minutes of silence. `ray_session` refuses or works around each of
them before Ray is started; `grmp doctor` lists them.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from ray._private.services import canonicalize_bootstrap_address

CONNECT_SECONDS = 5.0
HANDSHAKE_SECONDS = 20.0
"""A busy head may take long to answer; another kind of server never does."""
SHORT_TEMP_DIR = Path("/tmp/ray")  # noqa: S108  # Ray's own default, which is made for all users of a machine
MAX_SOCKET_BYTES = 107
"""Longest path of a Unix socket on Linux."""
_SOCKET = "session_0000-00-00_00-00-00_000000_0000000/sockets/plasma_store"
"""Ray's longest socket below its temporary folder, with the largest process number."""
_PROCESS_SOCKET = "pymp-00000000/listener-00000000"
"""That of Python's multiprocessing below TMPDIR."""
PACKAGES = ("grmp_core", "pipelines")


@dataclass(frozen=True)
class Fault:
    """One thing that keeps Ray from working here, and the remedy."""

    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.fix}"


@dataclass(frozen=True)
class TempDir:
    """Folder for the files of a Ray that is started here."""

    path: Path
    note: str | None = None
    """Why it is another one than RAY_TMPDIR or TMPDIR ask for; null: it is that one."""


def address_fault(address: str) -> Fault | None:
    """Whether a Ray head answers at `address` (`host:port`, or `auto` for the cluster of this machine).

    Takes at most CONNECT_SECONDS where nothing listens, HANDSHAKE_SECONDS where something else does.
    """
    named = f"RAY_ADDRESS={address}"
    if "://" in address:
        kind = "the address of a dashboard" if address.startswith("http") else "no address of a cluster's head"
        fix = "set it to the head's host:port (port 6379 as a rule), or submit the command by python -m cluster.submit"
        return Fault(f"{named} is {kind}", fix)
    if address == "auto":
        try:
            address = canonicalize_bootstrap_address(address) or ""
        except ConnectionError:
            return Fault(f"{named}, but no Ray cluster runs on this machine", "start one, or unset RAY_ADDRESS")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return Fault(f"{named} is not of the form host:port", "correct it (10.0.0.1:6379, say), or unset it")
    fix = "start the cluster, or correct or unset RAY_ADDRESS"
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return Fault(f"no Ray cluster answers at {named} ({error.strerror or error})", fix)
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks_grpc(address):
        return Fault(f"{named}: what listens there is no Ray head", fix)
    return None


def temp_dir() -> TempDir | Fault:
    """RAY_TMPDIR, else TMPDIR, else /tmp, as Ray has it; /tmp where the named folder is too long or not writable."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    named = SHORT_TEMP_DIR if name is None else Path(os.environ[name], "ray").absolute()
    problem = _unusable(named)
    if problem is None:
        return TempDir(named)
    fix = "set RAY_TMPDIR to a folder with a short path that can be written"
    if name is None:
        return Fault(f"{named} {problem}", fix)
    if (other := _unusable(SHORT_TEMP_DIR)) is not None:
        return Fault(f"{name}: {named} {problem}, and {SHORT_TEMP_DIR} {other}", fix)
    return TempDir(SHORT_TEMP_DIR, f"{name}: {named} {problem}; Ray keeps its files in {SHORT_TEMP_DIR}")


@contextmanager
def short_tmpdir() -> Iterator[None]:
    """Meanwhile, no TMPDIR that is too long for the sockets of the processes that Ray starts, its dashboard's first.

    They and the workers keep /tmp for their life; the driver has its own again afterwards.
    """
    given = os.environ.get("TMPDIR", "")
    if not given or len(os.fsencode(Path(given, _PROCESS_SOCKET).absolute())) <= MAX_SOCKET_BYTES:
        yield
        return
    os.environ["TMPDIR"] = str(SHORT_TEMP_DIR.parent)
    try:
        yield
    finally:
        os.environ["TMPDIR"] = given


def token_without_home() -> str | None:
    """Give a Ray that is started here a token by RAY_AUTH_TOKEN where it could not write one to ~/.ray.

    -> a note when that was done. The token is for this process and the ones it starts.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if given or os.environ.get("RAY_AUTH_MODE", "token") != "token" or (problem := home_problem()) is None:
        return None
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return f"{problem}; Ray's token is kept in memory"


def home_problem() -> str | None:
    """Why Ray can neither read nor write its token in the home folder; null: it can."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return "this user has no home folder"
    folder = home / ".ray"
    if (folder / "auth_token").is_file():
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"HOME={home} cannot be written ({error.strerror})"
    return None if os.access(folder, os.W_OK) else f"{folder} cannot be written"


def shadowing_modules(folder: Path) -> list[Path]:
    """Modules in `folder` that are called like this package's, but are not its own."""
    here = Path(__file__).resolve().parents[2]
    if folder.resolve() == here:
        return []
    candidates = [path for name in PACKAGES for path in (folder / f"{name}.py", folder / name / "__init__.py")]
    return [path for path in candidates if path.is_file()]


def search_path_fault(address: str | None) -> Fault | None:
    """Whether workers of a cluster would import other modules of the current folder in place of this package.

    Ray puts the current folder of a driver first on the search path of a cluster's workers. For a Ray that is started
    here `ray_session` keeps the folder off it.
    """
    shadowing = shadowing_modules(Path.cwd()) if address is not None else []
    if not shadowing:
        return None
    return Fault(
        f"workers of the cluster would import {shadowing[0]} in place of this package",
        "start the command in another folder, or rename the file",
    )


def _unusable(folder: Path) -> str | None:
    if len(os.fsencode(folder / _SOCKET)) > MAX_SOCKET_BYTES:
        return f"is too long for Ray's sockets, whose paths have at most {MAX_SOCKET_BYTES} bytes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    return None if os.access(folder, os.W_OK | os.X_OK) else "cannot be written"


def _speaks_grpc(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=HANDSHAKE_SECONDS)
        except grpc.FutureTimeoutError:
            return False
    return True

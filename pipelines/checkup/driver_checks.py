"""Checks of the machine that a command is started on: what Ray's start and MLflow need there."""

from __future__ import annotations

from pathlib import Path

from pipelines.checkup.questions import problem_within
from pipelines.checkup.verdicts import Finding
from pipelines.configuration.schema import Config
from pipelines.runtime import environment
from pipelines.runtime.environment import Fault
from pipelines.tracking.store_check import StoreProblem
from pipelines.tracking.tracker import tracker_of

TRACKING_SECONDS = 20.0


def check_address(address: str | None) -> Finding:
    """Whether RAY_ADDRESS names a cluster that answers."""
    if address is None:
        return Finding("address", "ok", "RAY_ADDRESS names no cluster: Ray is started on this machine")
    fault = environment.address_fault(address)
    return _failed("address", fault) if fault else Finding("address", "ok", f"a Ray head answers at {address}")


def check_temp_dir() -> Finding:
    """Whether a Ray that is started here has a temporary folder it can use."""
    folder = environment.temp_dir()
    if isinstance(folder, Fault):
        return _failed("temp dir", folder)
    if folder.note is not None:
        fix = f"set RAY_TMPDIR to a short path where {folder.path} has too little room"
        return Finding("temp dir", "warn", folder.note, fix)
    return Finding("temp dir", "ok", str(folder.path))


def check_home() -> Finding:
    """Whether the home folder takes Ray's token and the caches of weights."""
    problem = environment.home_problem()
    if problem is not None:
        return Finding(
            "home", "warn", f"{problem}; nothing is cached there", "set HOME to a folder that can be written"
        )
    return Finding("home", "ok", str(Path.home()))


def check_search_path(address: str | None) -> Finding:
    """Whether workers import this package and no other of its name."""
    fault = environment.search_path_fault(address)
    if fault is not None:
        return _failed("search path", fault)
    hidden = environment.shadowing_modules(Path.cwd())
    others = f"; {hidden[0]} is not imported" if hidden else ""
    return Finding("search path", "ok", f"workers import this package{others}")


def check_tracking(config: Config, num_nodes: int) -> Finding:
    """Whether runs can be logged: the driver alone does that, so that a file is enough for one node."""
    tracker = tracker_of(config)
    address = tracker.address
    problems: list[StoreProblem | None] = []
    late = problem_within(TRACKING_SECONDS, lambda: problems.append(tracker.problem(thorough=True)))
    if late is not None:
        fix = f"start the store or correct {address.setting}"
        return Finding("tracking", "fail", f"MLflow at {address.shown}: {late}", fix)
    if (problem := problems[0]) is not None:
        return Finding("tracking", "fail", problem.problem, problem.fix)
    if address.database is not None and num_nodes > 1:
        fix = "set tracking.uri or MLFLOW_TRACKING_URI to an MLflow server"
        return Finding("tracking", "warn", f"{address.shown} is a file that only the driver's node has", fix)
    return Finding("tracking", "ok", f"{address.shown} {'answers' if address.database is None else 'can be written'}")


def _failed(check: str, fault: Fault) -> Finding:
    return Finding(check, "fail", fault.problem, fault.fix)

"""What every workload shares: a Ray session, the console, and the manifest of an output folder."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from grmp_core.errors import InputError
from grmp_core.seeds import seed_of
from grmp_core.storage import Location, locate

if TYPE_CHECKING:
    from pipelines.config import Config

QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # they fill job logs; the workloads print lines of their own
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # otherwise every line of a worker appears twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a configuration keep their meaning
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ON_ONE_MACHINE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""Nobody takes a node away there; the watcher costs seconds."""
WORKER_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "OPENCV_FOR_THREADS_NUM": "1"}
WHERE_THINGS_ARE = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables that workers get from the driver. Keys are not among them: nodes have rights of their own."""
PACKAGES = ("grmp-iqa", "torch", "open_clip_torch", "ray", "mlflow", "pyarrow", "numpy", "opencv-python-headless")


@contextmanager
def ray_session() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS (set inside `ray job submit`), or start Ray on this machine for the time.

    A session that is already there is used and left running.
    """
    if ray.is_initialized():
        yield
        return
    settings = QUIET if "RAY_ADDRESS" in os.environ else {**QUIET, **ON_ONE_MACHINE}
    os.environ.update({key: os.environ.get(key, value) for key, value in settings.items()})
    root = str(Path(__file__).resolve().parents[1])
    places = {name: os.environ[name] for name in WHERE_THINGS_ARE if name in os.environ}
    environment = {**settings, **WORKER_ENVIRONMENT, **places}
    for name in _given_by_job():  # workers have them; Ray refuses to be told twice
        environment.pop(name, None)
    if os.environ.get("RAY_ADDRESS") is None:  # a cluster's workers have the package or get it by the working dir
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        ray.init(
            address=os.environ.get("RAY_ADDRESS", "local"),  # without a name, Ray would join any cluster it finds here
            runtime_env={"env_vars": environment},
            logging_level=logging.WARNING,
            log_to_driver=True,
        )
    except ConnectionError as error:
        raise InputError(
            f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}; correct or unset it ({error})"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


def _given_by_job() -> list[str]:
    """Variables that the job which this process is the driver of gives to its workers by itself."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return list(((job or {}).get("runtime_env") or {}).get("env_vars") or {})


def say(message: str) -> None:
    """One line of progress, at once, on stderr: stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as an aligned text table; columns of the first row."""
    if not rows:
        return "(nothing)"
    cells = [list(rows[0])] + [[_cell(row.get(name)) for name in rows[0]] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def output_place(config: Config, name: str) -> Location:
    """The folder of one workload's results."""
    return locate(config.output) / name


def config_hash(*parts: object) -> str:
    """Ten hex digits that differ when any part of what determines a result differs."""
    return f"{seed_of(*parts):016x}"[:10]


def write_manifest(
    place: Location,
    command: str,
    config: Config,
    started: float,
    *,
    inputs: dict[str, Any],
    counts: dict[str, Any],
    rejected: Sequence[dict[str, str]] = (),
) -> None:
    """`manifest.json`: what made this folder."""
    from pipelines.config import as_dict  # brings torch, which a worker that makes pictures does without

    (place / "manifest.json").write_json(
        {
            "command": command,
            "config": as_dict(config),
            "git_commit": git_commit(),
            "versions": versions(),
            "inputs": inputs,
            "counts": counts,
            "rejected": list(rejected),
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 1),
        }
    )


def git_commit() -> str | None:
    """Commit of the source tree, `-dirty` with uncommitted changes; null for an installed package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None  # no git program, or no commit yet


def versions() -> dict[str, str]:
    """Python and the packages that decide about results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "source tree"
    return found


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def one_line(error: BaseException) -> str:
    """The cause a person can act on: the last line of what Ray wraps around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

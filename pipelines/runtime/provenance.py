"""The folders of a command's results, and the manifest that tells how they were made."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grmp_core.seeds import seed_of
from grmp_core.storage import Location, locate

if TYPE_CHECKING:  # it brings torch, which a worker that makes pictures does without
    from pipelines.configuration.schema import Config


PACKAGES = ("grmp-iqa", "torch", "open_clip_torch", "ray", "mlflow", "pyarrow", "numpy", "opencv-python-headless")


def output_folder(config: Config, name: str) -> Location:
    """The folder of one workload's results."""
    return locate(config.output) / name


def config_hash(*parts: object) -> str:
    """Ten hex digits that differ when any of the parts that determine a result differs."""
    return f"{seed_of(*parts):016x}"[:10]


def write_manifest(
    folder: Location,
    command: str,
    config: Config,
    started: float,
    *,
    inputs: dict[str, Any],
    counts: dict[str, Any],
    rejected: Sequence[dict[str, str]] = (),
    not_taken: Sequence[dict[str, str]] = (),
    name: str = "manifest.json",
) -> None:
    """A manifest: all that made this folder. rejected, not_taken: path and reason of images, and of other files, that
    are left out.
    """
    from pipelines.configuration.loading import as_dict  # brings torch, which a worker that makes pictures does without

    (folder / name).write_json(
        {
            "command": command,
            "config": as_dict(config),
            "git_commit": git_commit(),
            "versions": versions(),
            "inputs": inputs,
            "counts": counts,
            "rejected": list(rejected),
            "not_taken": list(not_taken),
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 1),
        }
    )


def git_commit() -> str | None:
    """Commit of the source tree, `-dirty` with uncommitted changes; null for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None  # no git program, or no commit yet


def own_version() -> str:
    """The installed version; of a source tree with its commit, since its files may be newer than its installation."""
    commit = git_commit()
    return f"grmp-iqa {versions()['grmp-iqa']}" + (f" (source tree at {commit})" if commit else "")


def versions() -> dict[str, str]:
    """Python and the packages that decide about results."""
    installed = {"python": platform.python_version()}
    return installed | {name: package_version(name) or "source tree" for name in PACKAGES}


def package_version(name: str) -> str | None:
    """Of an installed package; null where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

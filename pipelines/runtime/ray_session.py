"""One Ray session a command, on this machine or on a cluster."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from grmp_core.errors import InputError
from pipelines.runtime import environment
from pipelines.runtime.cluster_address import cluster_address
from pipelines.runtime.console import one_line, say
from pipelines.runtime.progress import TERMINAL_OF_DRIVER

QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # they fill job logs; the workloads print lines of their own
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # otherwise every line of a worker appears twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a configuration keep their meaning
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ON_ONE_MACHINE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""A single machine is never preempted; the watcher costs seconds."""
WORKER_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "OPENCV_FOR_THREADS_NUM": "1"}
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables that workers get from the driver. Keys are not among them: nodes have rights of their own."""


class OwnSearchPath(JobConfig):
    """Keeps the driver's current folder and script folder off the workers' search path.

    Ray would put them first, where any `pipelines.py` or `utils.py` of a user hides this package's or a library's.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        """Ray leaves the search path alone where this is true."""
        return True


@contextmanager
def ray_session() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS (set inside `ray job submit`), or start Ray on this machine for the time.

    A session that is already there is used and left running. InputError, within seconds, where Ray cannot start or no
    cluster answers.
    """
    if ray.is_initialized():
        yield
        return
    address = cluster_address()
    settings = QUIET if address is not None else {**QUIET, **ON_ONE_MACHINE}
    os.environ.update({key: os.environ.get(key, value) for key, value in settings.items()})
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    variables = {**settings, **WORKER_ENVIRONMENT, **passed_on}
    if sys.stderr.isatty():
        variables[TERMINAL_OF_DRIVER] = "1"
    for name in _given_by_job():  # workers have them; Ray refuses to be told twice
        variables.pop(name, None)
    if address is None:
        _start(variables)
    else:
        _join(address, variables)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that there are no bars
    logging.getLogger("ray.tune.utils.util").setLevel(logging.ERROR)  # it warns that its own steps are slow
    try:
        yield
    finally:
        ray.shutdown()


def _start(variables: dict[str, str]) -> None:
    """Ray on this machine, whose workers import this package from where the driver has it."""
    folder = environment.temp_dir()
    if isinstance(folder, environment.Fault):
        raise InputError(f"Ray cannot start: {folder}")
    for note in filter(None, (folder.note, environment.token_without_home())):
        say(f"ray: {note}")
    logging.getLogger("ray._private.authentication.authentication_token_setup").addFilter(_is_no_token_note)
    root = str(Path(__file__).resolve().parents[2])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        with environment.short_tmpdir():
            _init(variables, address="local", _temp_dir=str(folder.path), job_config=OwnSearchPath())
    except OSError as error:
        raise InputError(f"Ray cannot start: {one_line(error)}; free or correct that, then try again") from error
    except Exception as error:  # Ray has no class of its own for this
        if "timed out during startup" not in str(error):
            raise
        raise InputError(
            "Ray did not start within 30 s: this machine is busy, or short of memory; try again when it is less so"
        ) from error


def _join(address: str, variables: dict[str, str]) -> None:
    """The cluster at `address`, whose workers have the package by themselves or get it by the job's working folder."""
    fault = environment.address_fault(address) or environment.search_path_fault(address)
    if fault is not None:
        raise InputError(str(fault))
    try:
        _init(variables, address=address)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise InputError(
            f"cannot join the Ray cluster at RAY_ADDRESS={address}: {one_line(error)}; correct that or unset it"
        ) from error


def _init(variables: dict[str, str], **options: Any) -> None:
    ray.init(runtime_env={"env_vars": variables}, logging_level=logging.WARNING, log_to_driver=True, **options)


def _is_no_token_note(record: logging.LogRecord) -> bool:
    """Ray warns at each start that a token protects it, which is as it should be."""
    return "Token authentication is enabled" not in record.getMessage()


def _given_by_job() -> list[str]:
    """Variables that the job which this process is the driver of gives to its workers by itself."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return list(((job or {}).get("runtime_env") or {}).get("env_vars") or {})

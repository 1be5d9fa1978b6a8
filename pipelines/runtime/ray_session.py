"""One Ray session a command, on this machine or on a cluster."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from grmp_core.errors import InputError
from pipelines.runtime.progress import TERMINAL_OF_DRIVER

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
    root = str(Path(__file__).resolve().parents[2])
    places = {name: os.environ[name] for name in WHERE_THINGS_ARE if name in os.environ}
    environment = {**settings, **WORKER_ENVIRONMENT, **places}
    if sys.stderr.isatty():
        environment[TERMINAL_OF_DRIVER] = "1"
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
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that there are no bars
    try:
        yield
    finally:
        ray.shutdown()


def _given_by_job() -> list[str]:
    """Variables that the job which this process is the driver of gives to its workers by itself."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return list(((job or {}).get("runtime_env") or {}).get("env_vars") or {})

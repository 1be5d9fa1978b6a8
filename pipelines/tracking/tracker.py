"""MLflow tracking: what a workload has written to its folder becomes runs. No other file talks to the tracking store.

The folder is the truth and MLflow a copy of it: a run carries a hash of what it was made from, so that logging again
changes nothing, and logging after an outage or a crash adds exactly what is missing. Two processes must not log the
same folder at the same time.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import requests
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException

from grmp_core.errors import InputError
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import SweepFolder, SweepResults
from pipelines.runtime.console import say
from pipelines.tracking import run_records
from pipelines.tracking.outbox import Untracked
from pipelines.tracking.run_records import digest

OUTAGE = (MlflowException, requests.RequestException, OSError)
"""What MLflow's client raises when its store or server is away, dies, or refuses."""
_KEY, _CONTENT, _TRIAL, _PARENT = "grmp.key", "grmp.content", "grmp.trial", "mlflow.parentRunId"
_BATCH = 500  # the server takes at most 1000 metrics, 100 parameters in one request
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its own patience is many minutes, for which a workload would stand still
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # it fills job logs
}


def open_tracking(config: Config) -> Tracker:
    """The store that `tracking.uri`, else MLFLOW_TRACKING_URI names, else a SQLite file in a local `output`.

    Nothing is contacted yet. A SQLite store is made absolute, so that it means the same from every working directory.

    Raises InputError for a plain folder as store, and when nothing names a store and `output` is remote.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    output = locate(config.output)
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        if not output.is_local:
            raise InputError(
                f"tracking.uri is not set and output {output.uri} is not a local folder; "
                "give the address of an MLflow server"
            )
        uri = f"sqlite:///{output.path}/mlflow.db"
    artifacts: str | None = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).expanduser().absolute()
        uri, artifacts = f"sqlite:///{database}", (database.parent / "mlartifacts").as_uri()
    elif "://" not in uri or uri.startswith("file:"):
        raise InputError(
            f"tracking.uri '{uri}' is a folder, which MLflow no longer takes; use sqlite:///{uri}/mlflow.db"
        )
    elif not uri.startswith("http"):
        artifacts = (output / "mlartifacts").uri if not output.is_local else Path(output.path, "mlartifacts").as_uri()
    return Tracker(uri, config.tracking.experiment, artifacts, output)


class Tracker:
    """Logs finished folders as runs of one experiment."""

    def __init__(self, uri: str, experiment: str, artifacts: str | None, output: Location) -> None:
        self.uri = uri
        self.experiment = experiment
        self._artifacts = artifacts
        """Where a new experiment keeps files; null: where the server says."""
        self._untracked = Untracked(output)

    @cached_property
    def client(self) -> MlflowClient:
        """First use of a fresh SQLite store makes its tables; several processes at once would break it."""
        with self._alone():
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            client.search_experiments(max_results=1)
        return client

    @cached_property
    def experiment_id(self) -> str:
        """Made on first use. InputError when an experiment of this name was deleted in MLflow."""
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return self.client.create_experiment(self.experiment, artifact_location=self._artifacts)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(self.experiment)
        if found is None or found.lifecycle_stage == "deleted":
            raise InputError(
                f"MLflow experiment '{self.experiment}' is deleted; restore it with "
                f"`mlflow experiments restore`, or set tracking.experiment to another name"
            )
        return found.experiment_id

    def log_sweep(self, sweep_dir: Location) -> str:
        """One parent run, one nested run a trial and a setting that a search tried; -> the parent's id, or "" when
        MLflow did not take it.

        Trials that are logged with the same content are left alone; one that was retried since replaces its run. What
        MLflow did not take is listed in `<output>/untracked.json` for `sync`.
        """
        sweep = SweepFolder(sweep_dir).read()
        return self._attempt("sweep", sweep_dir, lambda: self._log_sweep(sweep))

    def log_pretrain(self, pretrain_dir: Location) -> str:
        """One run with losses by step, configuration, and the prompts; as `log_sweep` in everything else."""
        manifest = (pretrain_dir / "manifest.json").read_json()
        history = (pretrain_dir / "history.json").read_json()["history"]
        return self._attempt("pretrain", pretrain_dir, lambda: self._log_pretrain(pretrain_dir, manifest, history))

    def pending(self) -> list[dict[str, str]]:
        """What could not be logged so far."""
        return self._untracked.entries()

    # --- one folder ------------------------------------------------------------------------------------------------

    def _attempt(self, kind: str, place: Location, log: Callable[[], str]) -> str:
        try:
            run_id = log()
        except OUTAGE as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self._untracked.add(kind, place, reason)
            say(f"tracking: {self.uri} did not take {place.uri} ({reason}); the results are on disk, log them later")
            return ""
        self._untracked.remove(place)
        return run_id

    def _log_sweep(self, sweep: SweepResults) -> str:
        manifest = sweep.manifest
        files = sweep.folder.files(searched=sweep.searched is not None)
        content = digest(file.read_bytes() for file, _ in files)
        key = digest(["sweep", sweep.folder.uri, manifest.get("inputs")])
        run = self._find(key) or self._create("sweep", key, manifest)
        run_id = run.info.run_id
        if run.data.tags.get(_CONTENT) == content:
            return run_id
        self._log_trials(sweep, run_id)
        self._log_params(run, manifest.get("config", {}))
        self._log_metrics(run_id, run_records.sweep_metrics(sweep))
        self._log_files(run_id, files, manifest.get("config", {}))
        self._finish(run_id, content, failed=len(sweep.finished) == 0)
        return run_id

    def _log_trials(self, sweep: SweepResults, parent_id: str) -> None:
        logged = {run.data.tags.get(_TRIAL): run for run in self._search(f"tags.`{_PARENT}` = '{parent_id}'")}
        tried = [] if sweep.searched is None else sweep.searched.to_dict("records")
        for row in [*sweep.trials.to_dict("records"), *tried]:
            known = {name: value for name, value in row.items() if pd.notna(value)}  # None or NaN, as the others go
            history = sweep.folder.trial(row["trial"]).read_history() if pd.isna(row["error"]) else {}
            content = digest([known, history])
            run = logged.get(row["trial"])
            if run is not None and run.data.tags.get(_CONTENT) == content:
                continue
            if run is not None:  # half logged by a process that died, or tried again since
                self.client.delete_run(run.info.run_id)
            self._log_trial(row, history, parent_id, content)

    def _log_trial(self, row: dict[Any, Any], history: dict[str, Any], parent_id: str, content: str) -> None:
        seconds = float(row["seconds"]) if pd.notna(row["seconds"]) else 0.0
        tags = {_PARENT: parent_id, _TRIAL: row["trial"], "mlflow.runName": row["trial"]}
        if pd.notna(row["error"]):
            tags["grmp.error"] = run_records.text(row["error"])
        started = _now_ms() - int(1000 * seconds)
        run = self.client.create_run(self.experiment_id, start_time=started, tags=tags)
        self._log_params(run, run_records.trial_params(row))
        self._log_metrics(run.info.run_id, run_records.trial_metrics(row, history))
        self._finish(run.info.run_id, content, failed=pd.notna(row["error"]))

    def _log_pretrain(self, place: Location, manifest: dict[str, Any], history: Sequence[dict[str, Any]]) -> str:
        content = digest(["pretrain", place.uri, history, manifest.get("config"), manifest.get("inputs")])
        run = self._find(content)
        if run is not None and run.data.tags.get(_CONTENT) == content:
            return run.info.run_id
        run = run or self._create("pretrain", content, manifest)
        self._log_params(run, manifest.get("config", {}))
        self._log_metrics(run.info.run_id, run_records.pretrain_metrics(history))
        files = run_records.existing(place, ("manifest.json", "history.json"))
        files += [(file, "bundle") for file in (place / "bundle").list()]
        self._log_files(run.info.run_id, files, manifest.get("config", {}))
        self._finish(run.info.run_id, content, failed=False)
        return run.info.run_id

    # --- MLflow ----------------------------------------------------------------------------------------------------

    def _find(self, key: str) -> Run | None:
        found = self._search(f"tags.`{_KEY}` = '{key}'")
        return found[0] if found else None

    def _search(self, query: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, ViewType.ACTIVE_ONLY, max_results=_BATCH, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _create(self, command: str, key: str, manifest: dict[str, Any]) -> Run:
        tags = {_KEY: key, "mlflow.runName": command, "mlflow.source.name": f"grmp {command}"}
        tags |= run_records.manifest_tags(manifest)
        started = _now_ms() - int(1000 * manifest.get("seconds", 0))
        return self.client.create_run(self.experiment_id, start_time=started, tags=tags)

    def _log_params(self, run: Run, config: dict[str, Any]) -> None:
        """Nested sections as dotted names. A parameter is never changed: what a run has already stays."""
        params = [Param(name, text) for name, text in run_records.flatten(config) if name not in run.data.params]
        for first in range(0, len(params), 100):
            self.client.log_batch(run.info.run_id, params=params[first : first + 100])

    def _log_metrics(self, run_id: str, values: run_records.Values) -> None:
        now = _now_ms()
        metrics = [
            Metric(name, float(value), now, step)
            for name, value, step in values
            if value is not None and math.isfinite(value)
        ]
        for first in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[first : first + _BATCH])

    def _log_files(self, run_id: str, files: Sequence[tuple[Location, str]], config: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for file, below in files:
                target = Path(folder, below, file.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
            Path(folder, "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            self.client.log_artifacts(run_id, folder)

    def _finish(self, run_id: str, content: str, *, failed: bool) -> None:
        """The hash goes last: a run without it counts as not logged."""
        self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED if failed else RunStatus.FINISHED))
        self.client.log_batch(run_id, tags=[RunTag(_CONTENT, content)])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.uri.startswith("sqlite:///"):
            yield
            return
        lock = Path(f"{self.uri.removeprefix('sqlite:///')}.lock")
        locate(lock).make_parent()
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _now_ms() -> int:
    return int(time.time() * 1000)

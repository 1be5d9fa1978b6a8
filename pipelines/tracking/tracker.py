"""MLflow tracking: the files of a workload's folder become runs. No other file writes to the tracking store.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, Run, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException

from grmp_core.errors import InputError
from grmp_core.identity import digest_of
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.results.stream_folder import StreamFolder
from pipelines.results.sweep_folder import SweepFolder, SweepResults, TrialFolder
from pipelines.runtime.console import say
from pipelines.tracking import run_records
from pipelines.tracking.outbox import Untracked
from pipelines.tracking.store_address import StoreAddress, store_address
from pipelines.tracking.store_check import StoreProblem, problem_of, reason, store_problem

_KEY, _CONTENT, _TRIAL, _PARENT = "grmp.key", "grmp.content", "grmp.trial", "mlflow.parentRunId"
_BATCH = 500  # the server takes at most 1000 metrics, 100 parameters in one request
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its own patience is many minutes, for which a workload would stand still
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # it fills job logs
}


def open_tracking(config: Config, needed_for: str | None = None) -> Tracker:
    """The store of the configuration (`store_address`), after a look whether it can work. Makes no file; MLflow
    makes its tables in an empty database of a server.

    A server that does not answer is told in a line, since it may be back when there is something to log; with
    `needed_for`, the use that cannot wait for it, it is refused.

    InputError for a store that cannot work: of a kind that is not supported, damaged, not writable, without its driver
    or its rights, or with the experiment deleted.
    """
    tracker = tracker_of(config)
    problem = tracker.problem()
    if problem is None:
        return tracker
    if needed_for is not None:
        raise InputError(f"{needed_for}: {problem}")
    if not problem.may_pass:
        raise InputError(str(problem))
    say(f"tracking: {problem}; results are kept in the output, and `grmp sync` logs them later")
    return tracker


def tracker_of(config: Config) -> Tracker:
    """The tracker of a configuration, without a look at its store. InputError as `store_address` has it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs tracebacks of what it also raises
    return Tracker(store_address(config), config.tracking.experiment, locate(config.output))


class Tracker:
    """Logs finished folders as runs of one experiment."""

    def __init__(self, address: StoreAddress, experiment: str, output: Location) -> None:
        self.address = address
        self.experiment = experiment
        self._untracked = Untracked(output)

    @property
    def uri(self) -> str:
        """For MLflow; `address.shown` is for messages."""
        return self.address.uri

    def problem(self, *, thorough: bool = False) -> StoreProblem | None:
        """Why this store does not work, or None; a SQLite store that is not there yet only needs its folder."""
        problem = store_problem(self.address, thorough=thorough)
        database = self.address.database
        if problem is not None or (database is not None and not database.exists()):
            return problem
        return problem_of(self.address, self._refuse_deleted_experiment)

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
        self._refuse_deleted_experiment()
        experiment = self.client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            return experiment.experiment_id
        try:
            return self.client.create_experiment(self.experiment, artifact_location=self.address.artifacts)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = self.client.get_experiment_by_name(self.experiment)  # another process was faster
            if experiment is None:
                raise
            return experiment.experiment_id

    def _refuse_deleted_experiment(self) -> None:
        experiment = self.client.get_experiment_by_name(self.experiment)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise InputError(
                f"MLflow experiment '{self.experiment}' is deleted; restore it with "
                f"`mlflow experiments restore`, or set tracking.experiment to another name"
            )

    def log_sweep(self, sweep_dir: Location) -> str:
        """One parent run, one nested run a trial and a setting that a search tried; -> the parent's id, or "" when
        MLflow did not take it.

        Trials that are logged with the same content are left alone; one that was retried since replaces its run. What
        MLflow did not take is listed in `<output>/untracked.json` for `sync`. Never raises for a fault of the store:
        the results are on disk.
        """
        return self._attempt("sweep", sweep_dir, lambda: self._log_sweep(SweepFolder(sweep_dir).read()))

    def log_pretrain(self, pretrain_dir: Location) -> str:
        """One run with losses by step, configuration, and the prompts; as `log_sweep` in everything else."""
        return self._attempt("pretrain", pretrain_dir, lambda: self._log_pretrain(pretrain_dir))

    def log_stream(self, stream_dir: Location) -> str:
        """One parent run with SRCC by step, one nested run a set; as `log_sweep` in everything else."""
        return self._attempt("stream", stream_dir, lambda: self._log_stream(StreamFolder(stream_dir)))

    def run_of_bundle(self, bundle: Location) -> Run | None:
        """The run of the trial that wrote a bundle; null where it is not logged."""
        if "'" in bundle.uri:  # MLflow's search has no way to write it
            return None
        runs = self._search(f"params.bundle = '{bundle.uri}'")
        return runs[0] if runs else None

    def link_model(self, model_id: str, run: Run, metrics: Mapping[str, float]) -> None:
        """Make a logged model an output of the run that its bundle comes from, and log its test metrics with the model
        and the labels they were measured on."""
        parent = run.data.tags.get(_PARENT)
        made_by = self.client.get_run(parent) if parent else run
        inputs = made_by.inputs.dataset_inputs if made_by.inputs else []
        labels = next((one.dataset for one in inputs if one.dataset.name != "tasks"), None)
        about = {"dataset_name": labels.name, "dataset_digest": labels.digest} if labels else {}
        now = _now_ms()
        self.client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, step=0)])
        self.client.log_batch(
            run.info.run_id,
            metrics=[
                Metric(name, float(value), now, 0, model_id=model_id, run_id=run.info.run_id, **about)
                for name, value in metrics.items()
                if value is not None and math.isfinite(value)
            ],
        )

    def pending(self) -> list[dict[str, str]]:
        """Entries of the list of folders that could not be logged so far."""
        return self._untracked.entries()

    # --- one folder ------------------------------------------------------------------------------------------------

    def _attempt(self, kind: str, folder: Location, log: Callable[[], str]) -> str:
        """The folder is on the list of what is missing before anything is logged: a killed process leaves it there."""
        self._untracked.add(kind, folder, "logging was interrupted")
        try:
            problem = store_problem(self.address)  # quicker than the client's own patience
            if problem is not None:
                return self._postpone(kind, folder, problem.problem)
            run_id = log()
        except Exception as error:  # drivers and transports raise errors of any type; the results are on disk
            return self._postpone(kind, folder, reason(error))
        self._untracked.remove(folder)
        return run_id

    def _postpone(self, kind: str, folder: Location, why: str) -> str:
        unlisted = self._untracked.add(kind, folder, why)
        later = "`grmp sync` logs it later" if unlisted is None else f"run the command again to log it ({unlisted})"
        say(f"tracking: {folder.uri} is on disk, but not in MLflow ({why}); {later}")
        return ""

    def _log_sweep(self, sweep: SweepResults) -> str:
        manifest = sweep.manifest
        files = sweep.folder.files(searched=sweep.searched is not None)
        content = digest_of(*(file.read_bytes() for file, _ in files))
        key = digest_of("sweep", sweep.folder.uri, manifest.get("inputs"))
        run = self._find(key) or self._create("sweep", key, manifest)
        run_id = run.info.run_id
        if run.data.tags.get(_CONTENT) == content:
            return run_id
        self._log_trials(sweep, run_id)
        self._log_params(run, manifest.get("config", {}))
        self._log_datasets(run_id, manifest)
        self._log_metrics(run_id, run_records.sweep_metrics(sweep))
        self._log_files(run_id, files, manifest.get("config", {}))
        self._finish(run_id, content, failed=len(sweep.finished) == 0)
        return run_id

    def _log_trials(self, sweep: SweepResults, parent_id: str) -> None:
        tried = [] if sweep.searched is None else sweep.searched.to_dict("records")
        for_trials = [*sweep.trials.to_dict("records"), *tried]
        self._log_nested(parent_id, [(row, sweep.folder.trial(row["trial"])) for row in for_trials])

    def _log_nested(self, parent_id: str, rows: Sequence[tuple[dict[Any, Any], TrialFolder]]) -> None:
        logged = {run.data.tags.get(_TRIAL): run for run in self._search(f"tags.`{_PARENT}` = '{parent_id}'")}
        for row, folder in rows:
            values = {name: value for name, value in row.items() if pd.notna(value)}  # None or NaN, as the others go
            history = folder.read_history() if pd.isna(row["error"]) else {}
            content = digest_of(values, history)
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

    def _log_stream(self, folder: StreamFolder) -> str:
        manifest, files = folder.manifest(), folder.files()
        content = digest_of(*(file.read_bytes() for file, _ in files if file.name != "manifest.json"), folder.rows())
        key = digest_of("stream", folder.root.uri)
        run = self._find(key) or self._create("continual", key, manifest)
        run_id = run.info.run_id
        if run.data.tags.get(_CONTENT) == content:
            return run_id
        self._log_nested(run_id, [(row, folder.named_step(row["trial"])) for row in folder.rows()])
        self._log_params(run, manifest.get("config", {}))
        self.client.log_inputs(run_id, run_records.stream_datasets(manifest))
        self._log_metrics(run_id, run_records.stream_metrics(manifest, folder.srcc()))
        self._log_files(run_id, files, manifest.get("config", {}))
        self._finish(run_id, content, failed=False)
        return run_id

    def _log_pretrain(self, folder: Location) -> str:
        manifest = (folder / "manifest.json").read_json()
        history = (folder / "history.json").read_json()["history"]
        content = digest_of("pretrain", folder.uri, history, manifest.get("config"), manifest.get("inputs"))
        run = self._find(content)
        if run is not None and run.data.tags.get(_CONTENT) == content:
            return run.info.run_id
        run = run or self._create("pretrain", content, manifest)
        self._log_params(run, manifest.get("config", {}))
        self._log_datasets(run.info.run_id, manifest)
        self._log_metrics(run.info.run_id, run_records.pretrain_metrics(history))
        files = run_records.existing(folder, ("manifest.json", "history.json"))
        files += [(file, "bundle") for file in (folder / "bundle").list()]
        self._log_files(run.info.run_id, files, manifest.get("config", {}))
        self._finish(run.info.run_id, content, failed=False)
        return run.info.run_id

    # --- MLflow ----------------------------------------------------------------------------------------------------

    def _find(self, key: str) -> Run | None:
        runs = self._search(f"tags.`{_KEY}` = '{key}'")
        return runs[0] if runs else None

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

    def _log_datasets(self, run_id: str, manifest: dict[str, Any]) -> None:
        found = run_records.datasets(manifest)
        if found:
            self.client.log_inputs(run_id, found)

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
        if self.address.database is None:
            yield
            return
        lock = Path(f"{self.address.database}.lock")
        locate(lock).make_parent()
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _now_ms() -> int:
    return int(time.time() * 1000)

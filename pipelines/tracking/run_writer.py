"""Writes what a folder holds into a run of MLflow, and only what is missing there."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.entities import (
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunStatus,
    RunTag,
)

from grmp_core.identity import digest_of
from grmp_core.storage import Location
from pipelines.results.sweep_folder import TrialFolder
from pipelines.tracking import run_records
from pipelines.tracking.experiment import DIGEST, Experiment
from pipelines.tracking.folder_contents import RunContent
from pipelines.tracking.system_metrics import Sample

PARENT = "mlflow.parentRunId"
_KEY, _CONTENT, _TRIAL = "grmp.key", "grmp.content", "grmp.trial"
_BATCH = 500  # the server takes at most 1000 metrics, 100 parameters in one request


class RunWriter:
    """A run carries the hash of its content; one that has it already is left alone."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.client = experiment, experiment.client

    def write(self, content: RunContent) -> str:
        """-> the id of the run."""
        found = self.experiment.search(f"tags.`{_KEY}` = '{content.key}'")
        run = found[0] if found else self._create(content)
        run_id = run.info.run_id
        if run.data.tags.get(_CONTENT) == content.digest:
            return run_id
        self._nested(run_id, content.nested)
        config = content.manifest.get("config", {})
        self._params(run, {**config, **content.params})
        self._inputs(run_id, content)
        self._metrics(run, content.metrics)
        self._system(run_id, content.system)
        self._files(run_id, content.files, config)
        if content.makes is not None:
            self._model(run_id, content.command, content.makes)
        self._finish(run_id, content.digest, failed=content.failed)
        return run_id

    # --- nested runs -------------------------------------------------------------------------------------------------

    def _nested(self, parent_id: str, rows: Sequence[tuple[dict[Any, Any], TrialFolder]]) -> None:
        if not rows:
            return
        logged = {run.data.tags.get(_TRIAL): run for run in self.experiment.search(f"tags.`{PARENT}` = '{parent_id}'")}
        for row, folder in rows:
            values = {name: value for name, value in row.items() if pd.notna(value)}  # None or NaN, as the others go
            history = folder.read_history() if pd.isna(row["error"]) else {}
            content = digest_of(values, history)
            run = logged.get(row["trial"])
            if run is not None and run.data.tags.get(_CONTENT) == content:
                continue
            if run is not None:  # half logged by a process that died, or tried again since
                self.client.delete_run(run.info.run_id)
            self._trial(row, history, parent_id, content)

    def _trial(self, row: dict[Any, Any], history: dict[str, Any], parent_id: str, content: str) -> None:
        seconds = float(row["seconds"]) if pd.notna(row["seconds"]) else 0.0
        tags = {PARENT: parent_id, _TRIAL: row["trial"], "mlflow.runName": row["trial"]}
        if pd.notna(row["error"]):
            tags["grmp.error"] = run_records.text(row["error"])
        started = _now_ms() - int(1000 * seconds)
        run = self.client.create_run(self.experiment.experiment_id, start_time=started, tags=tags)
        self._params(run, run_records.trial_params(row))
        self._metrics(run, run_records.trial_metrics(row, history))
        self._finish(run.info.run_id, content, failed=pd.notna(row["error"]))

    # --- MLflow ------------------------------------------------------------------------------------------------------

    def _create(self, content: RunContent) -> Run:
        command = content.command
        tags = {_KEY: content.key, "mlflow.runName": command, "mlflow.source.name": f"grmp {command}"}
        tags |= run_records.manifest_tags(content.manifest)
        started = _now_ms() - int(1000 * content.manifest.get("seconds", 0))
        return self.client.create_run(self.experiment.experiment_id, start_time=started, tags=tags)

    def _params(self, run: Run, config: dict[str, Any]) -> None:
        """Nested sections as dotted names. A parameter is never changed: what a run has already stays."""
        params = [Param(name, text) for name, text in run_records.flatten(config) if name not in run.data.params]
        for first in range(0, len(params), 100):
            self.client.log_batch(run.info.run_id, params=params[first : first + 100])

    def _inputs(self, run_id: str, content: RunContent) -> None:
        """Data sets, and the logged models that the run started from."""
        started_from = [self.experiment.model_of(digest) for digest in content.starts_from]
        models = [LoggedModelInput(model.model_id) for model in started_from if model is not None]
        if content.datasets or models:
            self.client.log_inputs(run_id, content.datasets, models)

    def _metrics(self, run: Run, values: run_records.Values) -> None:
        """Points that a run has already, logged by a process that died, are not logged twice."""
        now, run_id = _now_ms(), run.info.run_id
        for name in {name for name, *_ in values} & run.data.metrics.keys():
            there = {point.step: point.value for point in self.client.get_metric_history(run_id, name)}
            values = [value for value in values if value[0] != name or there.get(value[2]) != value[1]]
        metrics = [
            Metric(name, float(value), now, step)
            for name, value, step in values
            if value is not None and math.isfinite(value)
        ]
        for first in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[first : first + _BATCH])

    def _system(self, run_id: str, samples: Sequence[Sample]) -> None:
        """As MLflow names the metrics of a node: system/<node>/<metric>. It ignores a point that it has already."""
        steps: Counter[str] = Counter()
        metrics = []
        for sample in samples:
            node = sample["node"]
            for name, value in sample["metrics"].items():
                metrics.append(Metric(f"system/{node}/{name}", value, sample["time_ms"], steps[node]))
            steps[node] += 1
        for first in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[first : first + _BATCH])

    def _files(self, run_id: str, files: Sequence[tuple[Location, str]], config: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for file, below in files:
                target = Path(folder, below, file.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
            Path(folder, "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            self.client.log_artifacts(run_id, folder)

    def _model(self, run_id: str, command: str, digest: str) -> None:
        """A logged model that later runs name as what they started from. Its files are the run's."""
        model = self.experiment.model_of(digest)
        if model is not None and model.source_run_id == run_id:  # of a process that died
            return
        model = self.client.create_logged_model(
            self.experiment.experiment_id, command, run_id, tags={DIGEST: digest}, model_type="prompts"
        )
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _finish(self, run_id: str, content: str, *, failed: bool) -> None:
        """The hash goes last: a run without it counts as not logged."""
        self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED if failed else RunStatus.FINISHED))
        self.client.log_batch(run_id, tags=[RunTag(_CONTENT, content)])


def _now_ms() -> int:
    return int(time.time() * 1000)

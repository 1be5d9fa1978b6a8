"""MLflow tracking: the files of a command's folder become runs. No other room writes to the tracking store.

The folder is the truth and MLflow a copy of it: a run carries a hash of what it was made from, so that logging again
changes nothing, and logging after an outage or a crash adds exactly what is missing. Two processes must not log the
same folder at the same time.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping

from mlflow.entities import LoggedModelOutput, Metric, Run

from grmp_core.errors import InputError
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.runtime.console import say
from pipelines.tracking import run_records
from pipelines.tracking.experiment import Experiment
from pipelines.tracking.folder_contents import CONTENTS
from pipelines.tracking.outbox import Untracked
from pipelines.tracking.run_writer import PARENT, RunWriter
from pipelines.tracking.store_address import StoreAddress, store_address
from pipelines.tracking.store_check import reason, store_problem

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


class Tracker(Experiment):
    """Logs finished folders as runs of one experiment."""

    def __init__(self, address: StoreAddress, experiment: str, output: Location) -> None:
        super().__init__(address, experiment)
        self._untracked = Untracked(output)

    def log(self, kind: str, folder: Location) -> str:
        """Log a folder of one of the kinds of `CONTENTS`; -> the run's id, or "" when MLflow did not take it.

        What is logged with the same content is left alone; a trial that was retried since replaces its run. What
        MLflow did not take is listed in `<output>/untracked.json` for `sync`. Never raises for a fault of the store:
        the results are on disk.
        """
        self._untracked.add(kind, folder, "logging was interrupted")  # a killed process leaves it there
        try:
            problem = store_problem(self.address)  # quicker than the client's own patience
            if problem is not None:
                return self._postpone(kind, folder, problem.problem)
            run_id = self._write(kind, folder)
        except Exception as error:  # drivers and transports raise errors of any type; the results are on disk
            return self._postpone(kind, folder, reason(error))
        self._untracked.remove(folder)
        return run_id

    def _write(self, kind: str, folder: Location) -> str:
        return RunWriter(self).write(CONTENTS[kind](folder))

    def _postpone(self, kind: str, folder: Location, why: str) -> str:
        unlisted = self._untracked.add(kind, folder, why)
        later = "`grmp sync` logs it later" if unlisted is None else f"run the command again to log it ({unlisted})"
        say(f"tracking: {folder.uri} is on disk, but not in MLflow ({why}); {later}")
        return ""

    def pending(self) -> list[dict[str, str]]:
        """Entries of the list of folders that could not be logged so far."""
        return self._untracked.entries()

    # --- models ------------------------------------------------------------------------------------------------------

    def run_of_bundle(self, bundle: Location) -> Run | None:
        """The run of the trial, adaptation or distillation that wrote a bundle; null where it is not logged."""
        if "'" in bundle.uri:  # MLflow's search has no way to write it
            return None
        runs = self.search(f"params.bundle = '{bundle.uri}'")
        return runs[0] if runs else None

    def link_model(self, model_id: str, run: Run, metrics: Mapping[str, float]) -> None:
        """Make a logged model an output of the run that its bundle comes from, and log its test metrics with the model
        and the data they were measured on."""
        parent = run.data.tags.get(PARENT)
        made_by = self.client.get_run(parent) if parent else run
        used = run_records.datasets_by_context(made_by)
        now = int(time.time() * 1000)
        run_id = run.info.run_id
        self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        measured = []
        for name, value in metrics.items():
            if value is not None and math.isfinite(value):
                data = used.get(run_records.measured_on(name))
                about = {} if data is None else {"dataset_name": data.name, "dataset_digest": data.digest}
                measured.append(Metric(name, float(value), now, 0, model_id=model_id, run_id=run_id, **about))
        self.client.log_batch(run_id, metrics=measured)

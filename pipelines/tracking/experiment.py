"""One experiment of an MLflow store."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.exceptions import MlflowException

from grmp_core.errors import InputError
from grmp_core.storage import locate
from pipelines.tracking.store_address import StoreAddress
from pipelines.tracking.store_check import StoreProblem, problem_of, store_problem

DIGEST = "grmp.digest"
"""Tag of a logged model: `Bundle.digest`."""
_PAGE = 500


class Experiment:
    """The store is contacted on first use."""

    def __init__(self, address: StoreAddress, name: str) -> None:
        self.address = address
        self.name = name

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
        experiment = self.client.get_experiment_by_name(self.name)
        if experiment is not None:
            return experiment.experiment_id
        try:
            return self.client.create_experiment(self.name, artifact_location=self.address.artifacts)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = self.client.get_experiment_by_name(self.name)  # another process was faster
            if experiment is None:
                raise
            return experiment.experiment_id

    def search(self, query: str) -> list[Run]:
        """All runs that `query` fits, the latest first."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, ViewType.ACTIVE_ONLY, max_results=_PAGE, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def model_of(self, digest: str) -> LoggedModel | None:
        """The latest logged model with the digest of a bundle; null where none is logged."""
        found = self.client.search_logged_models([self.experiment_id], f"tags.`{DIGEST}` = '{digest}'", max_results=1)
        return found[0] if found else None

    def _refuse_deleted_experiment(self) -> None:
        experiment = self.client.get_experiment_by_name(self.name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise InputError(
                f"MLflow experiment '{self.name}' is deleted; restore it with "
                f"`mlflow experiments restore`, or set tracking.experiment to another name"
            )

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

"""Fixtures of the workloads' tests."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class MlflowStore:
    output: str
    uri: str


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> MlflowStore:
    """One SQLite store for all tests, since making its tables takes seconds; each test uses names of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    return MlflowStore(output=str(folder), uri=f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(autouse=True)
def no_tracking_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own MLflow server never sees a test."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

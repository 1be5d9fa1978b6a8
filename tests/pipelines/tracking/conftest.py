"""A configuration for each test of tracking."""

from __future__ import annotations

import pytest

from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.schema import Config


@pytest.fixture
def config(mlflow_store, tmp_path, request) -> Config:
    """An output of its own and an experiment of its own in the shared store."""
    return Config(output=str(tmp_path), tracking=TrackingConfig(uri=mlflow_store.uri, experiment=request.node.name))

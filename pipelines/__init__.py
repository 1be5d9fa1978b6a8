"""Workloads on a machine or a cluster. `load_model` is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.scoring.model_lookup import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    if name != "load_model":
        raise AttributeError(f"module 'pipelines' has no attribute '{name}'")
    return importlib.import_module("pipelines.scoring.model_lookup").load_model

"""The library: no-reference image quality from few labels, and distortions with labels, without Ray and MLflow.

The names of `__all__` are loaded when they are first used, so that the import itself takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grmp_core.distortions import distort
    from grmp_core.model.differentiable import ImageQuality, load
    from grmp_core.model.quality_score import QualityScore

__all__ = ["ImageQuality", "QualityScore", "distort", "load"]

_HOMES = {
    "ImageQuality": "grmp_core.model.differentiable",
    "QualityScore": "grmp_core.model.quality_score",
    "distort": "grmp_core.distortions",
    "load": "grmp_core.model.differentiable",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'grmp_core' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

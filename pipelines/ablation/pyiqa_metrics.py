"""Metrics of pyiqa (IQA-PyTorch) as arms, where the user has installed it.

It is neither shipped nor required: its licence is non-commercial. It fetches the weights of a metric on first use.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

import numpy as np
import torch

from grmp_core.errors import InputError

PREFIX = "pyiqa "
"""Of the names of such arms; the rest is the metric's name there."""


class PyiqaMetric:
    """A no-reference metric. InputError where pyiqa is missing, has none of this name, or cannot fetch its weights."""

    def __init__(self, name: str) -> None:
        pyiqa = _pyiqa(name)
        names = pyiqa.list_models(metric_mode="NR")
        if name not in names:
            near = difflib.get_close_matches(name, names) or names
            raise InputError(
                f"pyiqa has no no-reference metric '{name}'; there are {', '.join(near[:5])} and others: "
                "python -c 'import pyiqa; print(pyiqa.list_models(metric_mode=\"NR\"))'"
            )
        self.name = name
        try:
            self.metric = pyiqa.create_metric(name, device=torch.device("cpu"))
        except (OSError, ImportError) as error:
            raise InputError(
                f"pyiqa cannot make its metric '{name}' ({error}); make it once where there is a network and what it "
                "imports, or leave the arm out"
            ) from error

    @torch.no_grad()
    def __call__(self, image_HW3: np.ndarray) -> float:
        """uint8 RGB -> the score on the metric's own scale, its sign such that higher is better.

        Raises InputError where the metric fails on the picture, or gives no finite number.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(image_HW3)).permute(2, 0, 1)[None].float() / 255
        try:
            score = float(self.metric(tensor))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise InputError(f"pyiqa's {self.name} fails on it ({error})") from error
        if not np.isfinite(score):
            raise InputError(f"pyiqa's {self.name} gives {score}")
        return -score if self.metric.lower_better else score


def check_metrics(names: Iterable[str]) -> None:
    """Make each metric once in this process, so that its weights are fetched once and a wrong name ends the run before
    workers start. InputError as of `PyiqaMetric`."""
    for name in names:
        PyiqaMetric(name)


def _pyiqa(name: str) -> ModuleType:
    try:
        return importlib.import_module("pyiqa")
    except ImportError as error:
        raise InputError(
            f"the arm '{PREFIX}{name}' needs the package pyiqa, which is not part of this one since its licence is "
            f"non-commercial ({error}): pip install pyiqa, on every node, or leave the arm out"
        ) from error

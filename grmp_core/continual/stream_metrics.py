"""Measures of a stream of sets, from the SRCC of every set after every step.

Shapes: T steps and as many sets, in the order of the stream. Entry (t, s) is the SRCC on the test part of set s of the
model after step t; entries above the diagonal are of sets that the model has not learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class StreamMetrics:
    """NaN where a measure is not defined: the last three of a stream of one set, and all that need a missing entry."""

    mean: float
    """SRCC over all sets after the last step."""
    plasticity: float
    """SRCC of each set right after its own step, mean over sets."""
    forgetting: float
    """Best SRCC that a set ever had from its own step on, minus that after the last step, mean over all sets but the
    last (Chaudhry et al. 2018); 0 or more, less is better."""
    stability: float
    """SRCC of earlier sets after each later step, mean over all such entries: what the model still knows on the way."""
    transfer: float
    """SRCC of sets before their own step, mean over all such entries."""


def stream_metrics(srcc_TT: np.ndarray) -> StreamMetrics:
    """ValueError for anything but a square of one step or more."""
    if srcc_TT.ndim != 2 or srcc_TT.shape[0] != srcc_TT.shape[1] or not len(srcc_TT):
        raise ValueError(f"a stream's SRCC is a square of steps and sets, not of shape {srcc_TT.shape}")
    steps = len(srcc_TT)
    lost = [srcc_TT[s:, s].max() - srcc_TT[-1, s] for s in range(steps - 1)]  # max is NaN where an entry is
    return StreamMetrics(
        mean=float(srcc_TT[-1].mean()),
        plasticity=float(srcc_TT.diagonal().mean()),
        forgetting=_mean(lost),
        stability=_mean(srcc_TT[np.tril_indices(steps, -1)]),
        transfer=_mean(srcc_TT[np.triu_indices(steps, 1)]),
    )


def _mean(values: np.ndarray | list[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")

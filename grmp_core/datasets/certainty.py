"""How much labels count in training by how sure they are."""

from __future__ import annotations

import numpy as np


def reliabilities(scores_N: np.ndarray, variance_N: np.ndarray) -> np.ndarray | None:
    """Reliability of each label, in (0, 1]: the share of its variance that is no error.

    variance_N: squared standard errors. Null where they are the same for all labels, or of one of them nobody knows.
    """
    if len(scores_N) < 2 or np.isnan(variance_N).any() or np.ptp(variance_N) <= 1e-9 * variance_N.max():
        return None
    whole = float(np.var(scores_N))
    signal = max(whole - float(variance_N.mean()), 0.1 * whole)
    return signal / (signal + variance_N) if signal > 0 else None

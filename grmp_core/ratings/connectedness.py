"""Whether a graph of comparisons hangs together: scores of images in separate parts cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from grmp_core.errors import InputError

_NAMED = 3


def check_connected(names: Sequence[str], left_E: np.ndarray, right_E: np.ndarray, fix: str) -> None:
    """InputError, which names the parts, unless the edges (left, right), indices into `names`, connect all of them.

    fix: what a person can do, the end of the message.
    """
    edges = coo_array((np.ones(len(left_E)), (left_E, right_E)), shape=(len(names), len(names)))
    count, part_N = connected_components(edges, directed=False)
    if count <= 1:
        return
    parts = [[name for name, own in zip(names, part_N, strict=True) if own == part] for part in range(count)]
    parts.sort(key=len, reverse=True)
    texts = [_described(part) for part in parts[:_NAMED]]
    more = f" | {count - _NAMED} parts more" if count > _NAMED else ""
    raise InputError(f"the votes fall into {count} parts that nothing compares: {' | '.join(texts)}{more}; {fix}")


def _described(part: list[str]) -> str:
    names = ", ".join(part[:_NAMED])
    return names if len(part) <= _NAMED else f"{names} and {len(part) - _NAMED} more"

"""Photos of a target that a backbone was trained on, known by the perceptual hashes that the backbone ships with."""

from __future__ import annotations

from importlib import resources
from io import BytesIO

import numpy as np

from grmp_core.inspection.near_duplicates import nearest
from grmp_core.model.nano_trunk import SIZES
from grmp_core.model.settings import EMBEDDED
from grmp_core.nano.groups import MAX_DIFFERENT_BITS

_TELLING_BITS = 16
"""A picture has about 32 bits set, a flat one next to none: its hash does not tell it from another flat one."""


def training_hashes(backbone: str, checkpoint: str | None = None) -> np.ndarray | None:
    """(M,) uint64: the hashes of all photos that a backbone has seen in training.

    Null where nobody knows them: of other backbones than the embedded one, and of weights of one's own.
    """
    if checkpoint is not None:
        return None
    weights = EMBEDDED if backbone in SIZES else backbone  # those of all sizes are cut out of the embedded ones
    file = resources.files("grmp_core") / "assets" / f"{weights.replace('/', '-')}.hashes.npy"
    return np.load(BytesIO(file.read_bytes()), allow_pickle=False) if file.is_file() else None


def leaked(hashes_N: np.ndarray, training_M: np.ndarray) -> np.ndarray:
    """(N,) bool: photos of which training saw the same or nearly the same one. Flat pictures are never among them."""
    return (np.bitwise_count(hashes_N) >= _TELLING_BITS) & (nearest(hashes_N, training_M) <= MAX_DIFFERENT_BITS)

"""Random numbers that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(*parts: object) -> int:
    """A 63-bit seed from the text of `parts`: the same on every machine, in every process, in any order of work."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def narrow_seed(seed: int) -> int:
    """`seed` for what takes 32 bits only, such as scikit-learn: itself where it fits, else 32 bits drawn from it."""
    return seed if seed < 1 << 32 else seed_of("32 bits", seed) >> 31


def generator_of(*parts: object) -> np.random.Generator:
    """A numpy Generator seeded by `seed_of(*parts)`."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))

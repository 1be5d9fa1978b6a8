"""Groups of photos that show the same thing: what goes to one side of a split goes there as a group.

Two photos are neighbours where their perceptual hashes differ in few bits or their features are nearly the same; a
group is what neighbours connect. All of it follows from the files' content.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 8
MAX_DIFFERENT_BITS = 5
MIN_COSINE = 0.9
HELD_OUT_SHARE = 10
"""One group in this many is held out."""


def perceptual_hash(image_HW3: np.ndarray) -> np.uint64:
    """64 bits: the signs of the lowest frequencies of the grey photo against their median (pHash, Zauner 2010)."""
    grey = cv2.cvtColor(cv2.resize(image_HW3, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    lowest = cv2.dct(grey.astype(np.float32))[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = lowest > np.median(lowest[1:])
    return np.packbits(bits).view(">u8")[0].astype(np.uint64)


def different_bits(a_N: np.ndarray, b_M: np.ndarray) -> np.ndarray:
    """(N,) and (M,) uint64 -> (N, M) numbers of bits that differ."""
    return np.bitwise_count(a_N[:, None] ^ b_M[None])


def neighbours(
    hashes_N: np.ndarray, features_NF: np.ndarray, hashes_M: np.ndarray, features_MF: np.ndarray
) -> np.ndarray:
    """(N, M) bool: which photos of the first list are neighbours of which of the second.

    Features are unit vectors as `standardized` gives them.
    """
    near = different_bits(hashes_N, hashes_M) <= MAX_DIFFERENT_BITS
    return near | (features_NF @ features_MF.T >= MIN_COSINE)


def standardized(features_NF: np.ndarray, mean_F: np.ndarray, std_F: np.ndarray) -> np.ndarray:
    """Features on a common scale, as unit vectors."""
    scaled = (features_NF.astype(np.float32) - mean_F) / (std_F + 1e-6)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True).clip(1e-6)


def group_numbers(hashes_N: np.ndarray, features_NF: np.ndarray, block: int = 1024) -> np.ndarray:
    """(N,) group of each photo, numbered from 0."""
    rows, columns = [], []
    for start in range(0, len(hashes_N), block):
        stop = start + block
        near = neighbours(hashes_N[start:stop], features_NF[start:stop], hashes_N, features_NF)
        i, j = near.nonzero()
        rows.append(i + start)
        columns.append(j)
    i, j = np.concatenate(rows), np.concatenate(columns)
    count = len(hashes_N)
    return connected_components(coo_array((np.ones(len(i), bool), (i, j)), shape=(count, count)), directed=False)[1]


def held_out(groups_N: np.ndarray, sha256_N: Sequence[str]) -> np.ndarray:
    """(N,) bool: groups whose smallest content hash is divisible by `HELD_OUT_SHARE`; whole groups, any file order."""
    first: dict[int, str] = {}
    for group, digest in zip(groups_N.tolist(), sha256_N, strict=True):
        first[group] = min(digest, first.get(group, digest))
    return np.array([int(first[group][:8], 16) % HELD_OUT_SHARE == 0 for group in groups_N.tolist()])

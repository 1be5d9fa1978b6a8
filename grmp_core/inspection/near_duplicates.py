"""Photos that are nearly the same, by their perceptual hashes.

N and M photos with 64 bits each, as `grmp_core.nano.groups.perceptual_hash` makes them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from grmp_core.nano.groups import MAX_DIFFERENT_BITS, different_bits, perceptual_hash

_BITS = 64
_BLOCK = 2048
_HASHED_PX = 2**24
"""A photo with more pixels is shrunk by bands before it is hashed, so that it never is in memory as a whole."""


class Pixels(Protocol):
    """An array (H, W, 3) uint8 RGB, or what gives regions of one: `decoding.DecodedImage`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, region: tuple[slice, slice], /) -> np.ndarray: ...


def hash_of(image: Pixels) -> int:
    """The perceptual hash of a decoded image, 64 bits; of a very large one after shrinking it by a whole factor."""
    height, width = image.shape[:2]
    factor = int(np.ceil(np.sqrt(height * width / _HASHED_PX)))
    if factor <= 1 or min(height, width) < 32 * factor:
        return int(perceptual_hash(image[:, :]))
    band = factor * max(1, _HASHED_PX // (width * factor))
    tops = range(0, height - factor + 1, band)
    shrunk = [_shrunk(image[top : min(top + band, height), :], factor) for top in tops]
    return int(perceptual_hash(np.concatenate(shrunk)))


def _shrunk(band_HW3: np.ndarray, factor: int) -> np.ndarray:
    rows, columns = band_HW3.shape[0] // factor, band_HW3.shape[1] // factor
    whole = band_HW3[: rows * factor, : columns * factor]
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)


def near_pairs(hashes_N: np.ndarray, max_bits: int = MAX_DIFFERENT_BITS) -> np.ndarray:
    """(P, 2) int64: all pairs i < j whose hashes differ in at most `max_bits`, sorted.

    Hashes that differ in k bits agree in one of k + 1 bands of bits at least, so only photos with an equal band are
    compared: the time grows with the number of such pairs, the memory with the number of photos.
    """
    found = [np.empty((0, 2), np.int64)]
    if not len(hashes_N):
        return found[0]
    edges = np.linspace(0, _BITS, max_bits + 2).astype(int)
    for low, high in pairwise(edges):
        keys = (hashes_N >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order][:1] ^ np.uint64(1)))
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            found += _pairs_within(hashes_N, order[start:stop], max_bits)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _pairs_within(hashes_N: np.ndarray, rows: np.ndarray, max_bits: int) -> list[np.ndarray]:
    pairs = []
    for start in range(0, len(rows) if len(rows) > 1 else 0, _BLOCK):
        block = rows[start : start + _BLOCK]
        i, j = np.nonzero(different_bits(hashes_N[block], hashes_N[rows]) <= max_bits)
        pairs.append(np.stack([block[i], rows[j]], axis=1)[block[i] < rows[j]])
    return pairs


def groups_of(pairs_P2: np.ndarray, count: int) -> list[list[int]]:
    """Groups of two or more of `count` photos that pairs connect, each sorted, in the order of their first photo."""
    i, j = pairs_P2[:, 0], pairs_P2[:, 1]
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(count, count))
    numbers = connected_components(graph, directed=False)[1]
    members: dict[int, list[int]] = {}
    for row in sorted(set(i.tolist()) | set(j.tolist())):
        members.setdefault(int(numbers[row]), []).append(row)
    return list(members.values())


def near_groups(hashes_N: np.ndarray, max_bits: int = MAX_DIFFERENT_BITS) -> list[list[int]]:
    """Groups of two or more photos that equal or near hashes connect; many equal ones take no more memory than few."""
    unique, inverse = np.unique(hashes_N, return_inverse=True)
    pairs = near_pairs(unique, max_bits)
    order = np.argsort(inverse, kind="stable")
    same = inverse[order][1:] == inverse[order][:-1]
    equal = np.stack([order[:-1][same], order[1:][same]], axis=1)
    first = np.full(len(unique), -1)
    first[inverse[::-1]] = np.arange(len(hashes_N))[::-1]
    return groups_of(np.concatenate([first[pairs].reshape(-1, 2), equal]).astype(np.int64), len(hashes_N))


def nearest(hashes_N: np.ndarray, known_M: np.ndarray) -> np.ndarray:
    """(N,) bits by which each photo differs from the nearest of the known ones; 64 where there are none."""
    bits = np.full(len(hashes_N), _BITS, np.uint8)
    for start in range(0, len(hashes_N) if len(known_M) else 0, 256):
        bits[start : start + 256] = different_bits(hashes_N[start : start + 256], known_M).min(axis=1)
    return bits

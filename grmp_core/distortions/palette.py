"""A small palette for a picture: boxes of the colour cube, split where that lowers the variance most (after Wu 1992).

Pictures are counted at 5 bits a channel, and all sums are of whole numbers, so a picture has one palette everywhere.
"""

from __future__ import annotations

import heapq

import numpy as np

_BITS = 5
_CELLS = 1 << (3 * _BITS)


def codes_of(image: np.ndarray) -> np.ndarray:
    """(H, W) uint16: the cell of the 32 x 32 x 32 colour cube each pixel lies in."""
    coarse = (image >> (8 - _BITS)).astype(np.uint16)
    return (coarse[..., 0] << (2 * _BITS)) | (coarse[..., 1] << _BITS) | coarse[..., 2]


def min_variance_palette(codes: np.ndarray, num_colours: int) -> tuple[np.ndarray, np.ndarray]:
    """-> (colours (K, 3) uint8, table (32768,) uint8 from a cell to its colour's index), K <= num_colours <= 256."""
    histogram = np.bincount(codes.reshape(-1), minlength=_CELLS)
    cells = np.flatnonzero(histogram)
    counts = histogram[cells].astype(np.float64)
    positions = np.stack([cells >> (2 * _BITS), (cells >> _BITS) & 31, cells & 31]).astype(np.float64)
    boxes = [_box(np.arange(len(cells)), counts, positions, 0)]
    while len(boxes) < num_colours and boxes[0][0] < 0:
        _, serial, members, axis = heapq.heappop(boxes)
        low, high = _cut(members, counts, positions[axis])
        heapq.heappush(boxes, _box(low, counts, positions, 2 * serial + 1))
        heapq.heappush(boxes, _box(high, counts, positions, 2 * serial + 2))
    colours = np.empty((len(boxes), 3), np.uint8)
    table = np.zeros(_CELLS, np.uint8)
    for index, (_, _, members, _) in enumerate(boxes):
        mean = (positions[:, members] * counts[members]).sum(axis=1) / counts[members].sum()
        colours[index] = np.rint(mean * 8 + 3.5)
        table[cells[members]] = index
    return colours, table


def _box(members: np.ndarray, counts: np.ndarray, positions: np.ndarray, serial: int) -> tuple:
    """(-largest squared error along an axis, serial number for ties, members, that axis)."""
    weights, position = counts[members], positions[:, members]
    total = weights.sum()
    error = (position * position * weights).sum(axis=1) - (position * weights).sum(axis=1) ** 2 / total
    axis = int(np.argmax(error))
    return (-float(error[axis]) if len(members) > 1 else 0.0, serial, members, axis)


def _cut(members: np.ndarray, counts: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halve a box at the plane that leaves the least variance in the two parts."""
    where = position[members].astype(np.int64)
    weight = np.bincount(where, counts[members], minlength=32)
    moment = weight * np.arange(32)
    below, moment_below = np.cumsum(weight)[:-1], np.cumsum(moment)[:-1]
    above, moment_above = weight.sum() - below, moment.sum() - moment_below
    valid = (below > 0) & (above > 0)
    gain = np.where(valid, moment_below**2 / np.maximum(below, 1) + moment_above**2 / np.maximum(above, 1), -1)
    left = where <= int(np.argmax(gain))
    return members[left], members[~left]

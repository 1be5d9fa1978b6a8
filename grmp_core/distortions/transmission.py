"""TID2013's types of lost or sparse data: transmission errors, local blocks, sparse sampling."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.compression import from_wavelet, jpeg, to_wavelet
from grmp_core.distortions.pixels import in_tiles, uniform_codes
from grmp_core.distortions.registry import Distortion

_MCU_PX = 16
"""Side of the unit that JPEG with halved chroma codes."""
_CODE_BLOCK = 16
_LOCAL_BLOCK_PX = 32
_MAX_PYRAMID_STEPS = 8


def jpeg_transmission_errors(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A decoder out of step: runs of 16 px units show content of another place, in other colours.

    `share`: expected share of the picture in damaged runs; at least one run is damaged.
    """
    source = jpeg(image, 90, rng)
    result = source.copy()
    height, width = image.shape[:2]
    num_rows, num_columns = -(-height // _MCU_PX), -(-width // _MCU_PX)
    missing = max(1.0, share * num_rows * num_columns)
    while missing > 0:
        row, start = int(rng.integers(num_rows)), int(rng.integers(num_columns))
        stop = min(num_columns, start + int(rng.integers(1, max(2, num_columns // 2 + 1))), start + int(missing) + 1)
        rows = slice(row * _MCU_PX, min(height, (row + 1) * _MCU_PX))
        columns = slice(start * _MCU_PX, min(width, stop * _MCU_PX))
        shifted = np.roll(source[rows], _MCU_PX * int(rng.integers(1, 4)), axis=1)[:, columns]
        offset = rng.integers(-60, 61, size=3) + int(rng.integers(-60, 61))
        result[rows, columns] = np.clip(shifted + offset, 0, 255).astype(np.uint8)
        missing -= stop - start
    return result


def jpeg2000_transmission_errors(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Code blocks of wavelet coefficients arrive damaged: patches of ripples and blur of several sizes.

    `share`: share of the code blocks that are hit (at least one), among the bands of steps 2 to 4.
    """
    return in_tiles(image, lambda tile: _damage_code_blocks(tile, share, rng))


def sparse_sampling(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Only a random share of the pixels is known; the rest is filled from averages over growing neighbourhoods."""
    return in_tiles(image, lambda tile: _sample_and_fill(tile, share, rng))


def _damage_code_blocks(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    pyramid = to_wavelet(image)
    levels = pyramid.details[1:4] or pyramid.details
    bands = [band for level in levels for band in level if band.size] or [pyramid.low]
    blocks = [
        band[top : top + _CODE_BLOCK, left : left + _CODE_BLOCK]
        for band in bands
        for top in range(0, band.shape[0], _CODE_BLOCK)
        for left in range(0, band.shape[1], _CODE_BLOCK)
    ]
    hits = rng.choice(len(blocks), size=min(len(blocks), max(1, round(share * len(blocks)))), replace=False)
    for index in hits:
        block = blocks[index]
        strength = np.float32(30 + 2 * np.sqrt(np.mean(block[..., 0] ** 2, dtype=np.float64)))
        keep = uniform_codes(block.shape[:2], rng) & 3
        signs = (uniform_codes(block.shape[:2], rng) & 2).astype(np.float32) - 1
        block[..., 0] = np.where(keep == 0, signs * 3 * strength, 0)
    return from_wavelet(pyramid)


def local_blocks(image: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Squares of 32 px with their values shifted far up or down; fewer at higher levels, which people prefer."""
    height, width = image.shape[:2]
    result = image.copy()
    for _ in range(round(count)):
        top = int(rng.integers(max(1, height - _LOCAL_BLOCK_PX + 1)))
        left = int(rng.integers(max(1, width - _LOCAL_BLOCK_PX + 1)))
        block = result[top : top + _LOCAL_BLOCK_PX, left : left + _LOCAL_BLOCK_PX]
        offset = int(rng.integers(50, 101)) * (1 if block.mean() < 128 else -1)
        block[...] = np.clip(block.astype(np.int16) + offset, 0, 255).astype(np.uint8)
    return result


def _sample_and_fill(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    received = uniform_codes((height, width), rng) < round(share * 65536)
    received[height // 2, width // 2] = True
    weights: list[np.ndarray] = [received.astype(np.float32)]
    values: list[np.ndarray] = [image * weights[0][..., None]]
    while max(weights[-1].shape) > 1 and len(weights) <= _MAX_PYRAMID_STEPS:
        size = (-(-weights[-1].shape[1] // 2), -(-weights[-1].shape[0] // 2))
        weights.append(cv2.resize(weights[-1], size, interpolation=cv2.INTER_AREA).reshape(size[::-1]))
        values.append(cv2.resize(values[-1], size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], 3))
    filled = values[-1] / np.maximum(weights[-1], 1e-6)[..., None]
    for weight, value in zip(reversed(weights[:-1]), reversed(values[:-1]), strict=True):
        size = (weight.shape[1], weight.shape[0])
        coarse = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR).reshape(*weight.shape, 3)
        filled = np.where(weight[..., None] > 0, value / np.maximum(weight, np.float32(1e-6))[..., None], coarse)
    smooth = cv2.GaussianBlur(filled, (3, 3), 0.5, borderType=cv2.BORDER_REFLECT).reshape(image.shape)
    return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


LOSSES = (
    Distortion(
        name="jpeg_transmission_errors",
        group="compression",
        kadid_id=None,
        tid_id=12,
        levels=(0.005, 0.01, 0.02, 0.04, 0.08),
        geometric=True,
        apply=jpeg_transmission_errors,
        description="strips of blocks with misplaced content and wrong colours (parameter: share of the picture)",
    ),
    Distortion(
        name="jpeg2000_transmission_errors",
        group="compression",
        kadid_id=None,
        tid_id=13,
        levels=(0.005, 0.01, 0.02, 0.04, 0.08),
        geometric=True,
        apply=jpeg2000_transmission_errors,
        description="patches of ripples of several sizes (parameter: share of wavelet code blocks hit)",
    ),
    Distortion(
        name="local_blocks",
        group="spatial",
        kadid_id=None,
        tid_id=15,
        levels=(16, 8, 4, 2, 1),
        geometric=True,
        apply=local_blocks,
        description="squares that are much too light or too dark, most of them at level 1 (parameter: how many)",
    ),
    Distortion(
        name="sparse_sampling",
        group="compression",
        kadid_id=None,
        tid_id=24,
        levels=(0.85, 0.65, 0.4, 0.15, 0.02),
        geometric=True,
        apply=sparse_sampling,
        description="few pixels survive, the rest is guessed from them: ragged, smeared detail (parameter: share kept)",
    ),
)

"""Straight seams in crops: columns or rows where brightness or colour steps by the same amount, between two pixels.

Where a part of a picture was damaged by itself (a tile that was decoded wrongly, a lost piece of a transmission, a
pasted patch), its border is such a seam. Edges of things in a photo are seldom so straight, and several pixels wide.

Shapes: C crops of size x size pixels, K channels, P places between two columns, S statistics of a crop.
"""

from __future__ import annotations

import numpy as np

_QUARTERS = 4
_EXTENTS = ((0, 4), (0, 2), (2, 4))
"""Parts of a crop's side, in quarters, along which a seam may run: all of it, and both halves."""
_FLAT = 0.5 / 255
"""Differences of pixels up to this have no sign."""
_TINY = 3e-4
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


def seam_statistics(crops_CHW3: np.ndarray) -> np.ndarray:
    """uint8 crops (C, size, size, 3) -> (C, 90) float32.

    Across columns, then across rows; for each extent; five numbers about the seam that sticks out the most, each for
    brightness, red less green, and yellow less blue. They are its step as a share of the full range, less the mean of
    the four places around it; the logarithm of how many times that of a typical place this is, with the step's sign;
    the share of pixels along it that step up, less the share that step down; its place in [0, 1]; and the product of
    these two.
    """
    pixels = crops_CHW3.astype(np.float32)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    channels_KCHW = np.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue]) / 255
    found = list[np.ndarray]()
    for maps in (channels_KCHW, channels_KCHW.swapaxes(2, 3)):
        steps = np.diff(maps, axis=3)
        signs = (steps > _FLAT).astype(np.float32) - (steps < -_FLAT)
        step_KCQP, sign_KCQP = (_means_of_quarters(values) for values in (steps, signs))
        for start, end in _EXTENTS:
            found += _strongest(step_KCQP[:, :, start:end].mean(axis=2), sign_KCQP[:, :, start:end].mean(axis=2))
    return np.concatenate([values_KC.T for values_KC in found], axis=1).astype(np.float32)


def tone_statistics(crops_CHW3: np.ndarray) -> np.ndarray:
    """uint8 crops (C, size, size, 3) -> (C, 9) float32: quantiles of the grey level, its mean and spread, in [0, 1]."""
    grey_CN = crops_CHW3.mean(axis=3, dtype=np.float32).reshape(len(crops_CHW3), -1) / 255
    parts = [np.quantile(grey_CN, QUANTILES, axis=1).T, grey_CN.mean(axis=1)[:, None], grey_CN.std(axis=1)[:, None]]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _means_of_quarters(values_KCHP: np.ndarray) -> np.ndarray:
    """-> (K, C, 4, P), over the rows of each quarter."""
    channels, crops, height, places = values_KCHP.shape
    rows = height // _QUARTERS
    return values_KCHP[:, :, : rows * _QUARTERS].reshape(channels, crops, _QUARTERS, rows, places).mean(axis=3)


def _strongest(step_KCP: np.ndarray, agreement_KCP: np.ndarray) -> list[np.ndarray]:
    """The statistics of the strongest seam of each crop and channel, (K, C) each."""
    around = np.pad(step_KCP, ((0, 0), (0, 0), (2, 2)), mode="edge")
    sharp_KCP = step_KCP - (around[..., :-4] + around[..., 1:-3] + around[..., 3:-1] + around[..., 4:]) / 4
    typical_KC = np.median(np.abs(sharp_KCP), axis=2) + _TINY
    place_KC1 = (np.abs(sharp_KCP) * np.abs(agreement_KCP)).argmax(axis=2)[..., None]
    step_KC, agreement_KC = (np.take_along_axis(v, place_KC1, axis=2)[..., 0] for v in (sharp_KCP, agreement_KCP))
    place_KC = (place_KC1[..., 0] + 1) / (step_KCP.shape[2] + 1)
    prominence_KC = np.sign(step_KC) * np.log1p(np.abs(step_KC) / typical_KC)
    return [step_KC, prominence_KC, agreement_KC, place_KC, place_KC * agreement_KC]

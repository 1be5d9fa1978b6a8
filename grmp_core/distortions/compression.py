"""Compression: JPEG 2000 and JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from grmp_core.distortions.registry import Distortion

JPEG2000_MIN_SIDE_PX = 32
"""OpenJPEG's default of six resolutions needs this much; a smaller picture is padded for the codec and cut back."""


def jpeg2000(image: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    pad_y, pad_x = max(0, JPEG2000_MIN_SIDE_PX - height), max(0, JPEG2000_MIN_SIDE_PX - width)
    padded = cv2.copyMakeBorder(image, 0, pad_y, 0, pad_x, cv2.BORDER_REPLICATE)
    decoded = _round_trip(padded, ".jp2", [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, max(1, round(1000 / ratio))])
    return np.ascontiguousarray(decoded[:height, :width])


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    return _round_trip(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, round(quality)])


def _round_trip(image: np.ndarray, suffix: str, parameters: list[int]) -> np.ndarray:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a {image.shape} image as {suffix}")
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


COMPRESSIONS = (
    Distortion(
        name="jpeg2000",
        group="compression",
        kadid_id=9,
        tid_id=11,
        levels=(16, 32, 45, 120, 400),
        geometric=True,
        apply=jpeg2000,
        description="wavelet coding: smeared detail and ringing (parameter: compression ratio)",
    ),
    Distortion(
        name="jpeg",
        group="compression",
        kadid_id=10,
        tid_id=10,
        levels=(43, 36, 24, 7, 4),
        apply=jpeg,
        description="8 x 8 blocks, mosquito noise and colour banding (parameter: quality setting)",
    ),
)

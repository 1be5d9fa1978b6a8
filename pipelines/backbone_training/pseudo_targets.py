"""Pseudo-targets: held-out rated photos as another camera might have left them, to choose settings on.

Photos like those of its training the backbone ranks too well for a setting to matter. Through a change of capture it
loses some of that, as on a real target. The labels stay those of the photos as people saw them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from grmp_core.imaging.decoding import read_image
from grmp_core.nano.material import RATED, Material


def _shrunk(photo_HW3: np.ndarray) -> np.ndarray:
    return cv2.resize(photo_HW3, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _jpeg(photo_HW3: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".jpg", photo_HW3[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 35])
    return read_image(data.tobytes())


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"none": lambda photo: photo, "shrunk": _shrunk, "jpeg": _jpeg}
"""Name -> change of a uint8 RGB photo: none, half the size, JPEG of quality 35."""


def write_pseudo_target(material: Material, change: str, out: Path, count: int = 400, seed: int = 7) -> Path:
    """Write `count` held-out rated photos, changed, as PNG, and labels.csv (image, mos in [0, 1], group).

    Args:
        change: a name of `CHANGES`.

    Returns:
        labels.csv, as `target.path` takes it; `target.reference_column=group` keeps neighbours on one side.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(seed).permutation(material.validation(RATED))[:count]
    rows = []
    for number in sorted(int(n) for n in chosen):
        name = f"{number:05d}.png"
        cv2.imwrite(str(out / name), CHANGES[change](material.store.pixels(number))[..., ::-1])
        rows.append((name, material.store.rows[number].score, int(material.groups_N[number])))
    labels = out / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "mos", "group"), *rows])
    return labels

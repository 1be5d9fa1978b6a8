"""Tables of labels with groups of neighbours: pseudo-targets to choose settings on, and targets kept from training.

A pseudo-target is held-out rated photos as another camera might have left them. Photos like those of its training the
backbone ranks too well for a setting to matter. Through a change of capture it loses some of that, as on a real target.
The labels stay those of the photos as people saw them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.nano.groups import group_numbers, neighbours
from grmp_core.nano.material import RATED, Material, read_described


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
    rows: list[tuple[str, float | None, int]] = []
    for number in sorted(int(n) for n in chosen):
        name = f"{number:05d}.png"
        cv2.imwrite(str(out / name), CHANGES[change](material.store.pixels(number))[..., ::-1])
        rows.append((name, material.store.rows[number].score, int(material.groups_N[number])))
    return _write(rows, out / "labels.csv")


def write_target_table(material: Material, described: Path, photos: Path, out: Path) -> tuple[Path, int]:
    """Write the table of a target that `prepare` described: image (path), mos in [0, 1], group of neighbours.

    Photos with a neighbour in the training material, held-out ones included, are left out.

    Args:
        photos: folder of the files that were described.
        out: the CSV.

    Returns:
        The table, and how many photos were left out. InputError where a photo is not in `photos`.
    """
    target = read_described(described, material)
    near = neighbours(target.hashes_N, target.features_NF, material.hashes_N, material.features_NF).any(axis=1)
    groups_N = group_numbers(target.hashes_N, target.features_NF)
    rows: list[tuple[str, float | None, int]] = []
    for number in np.flatnonzero(~near):
        row = target.store.rows[int(number)]
        if not (photos / row.name).is_file():
            raise InputError(f"'{photos}' does not hold {row.name}; give the folder that `prepare` read")
        rows.append((str((photos / row.name).resolve()), row.score, int(groups_N[number])))
    out.parent.mkdir(parents=True, exist_ok=True)
    return _write(rows, out), int(near.sum())


def _write(rows: list[tuple[str, float | None, int]], table: Path) -> Path:
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "mos", "group"), *rows])
    return table

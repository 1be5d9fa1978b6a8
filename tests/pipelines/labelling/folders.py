"""Folders of small images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> None:
    """A small noisy image, of a kind that its name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_images(folder: Path, names: Iterable[str]) -> Path:
    for seed, name in enumerate(names):
        write_image(folder / name, seed)
    return folder


def write_unreadable(path: Path) -> None:
    """A file that is there and cannot be read, not even by root."""
    path.symlink_to("/proc/self/mem")

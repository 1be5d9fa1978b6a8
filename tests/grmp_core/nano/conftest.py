"""A store of a few small pictures, with labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from grmp_core.nano.content import SCENES
from grmp_core.nano.crops import Content, CropConfig
from grmp_core.nano.photo_store import PhotoStore, SourcePhoto, write_store

NUM_CLASSES = 20
SCORES = (0.2, 0.5, 0.65, 0.7, 0.8, 0.9, None, None)
SMALL_BATCH = CropConfig(rated=3, distorted=3, pristine=1)
CLASS_WORDS = [f"thing {letter}" for letter in map(chr, range(97, 97 + NUM_CLASSES))]


@pytest.fixture(scope="session")
def photo_files(tmp_path_factory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(len(SCORES)):
        coarse = rng.integers(0, 256, (9, 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (300, 280), interpolation=cv2.INTER_CUBIC))
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="session")
def store(photo_files, tmp_path_factory) -> PhotoStore:
    folder = tmp_path_factory.mktemp("store")
    photos = [
        SourcePhoto(path=path, source="some", score=score) for path, score in zip(photo_files, SCORES, strict=True)
    ]
    assert write_store(folder, photos) == []
    return PhotoStore(folder)


@pytest.fixture(scope="session")
def content() -> Content:
    rng = np.random.default_rng(1)
    classes = rng.dirichlet(np.full(NUM_CLASSES, 0.1), size=len(SCORES)).astype(np.float16)
    table = np.zeros((NUM_CLASSES, len(SCENES)), dtype=np.float32)
    table[np.arange(NUM_CLASSES), np.arange(NUM_CLASSES) % len(SCENES)] = 1
    return Content(classes, table)

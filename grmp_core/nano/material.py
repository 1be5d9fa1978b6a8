"""Material of training: the photo store, the teacher's predictions, and which photos are held out.

A folder of material holds `pixels.bin` and `index.json` (the store), `classes.npy` (N, C) float16, `features.npy`
(N, F) float16, `hashes.npy` (N,) uint64; N photos, C classes, F features.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grmp_core.datasets import load
from grmp_core.errors import InputError
from grmp_core.imaging.listing import list_images
from grmp_core.nano.captions import class_word
from grmp_core.nano.content import scene_table
from grmp_core.nano.crops import Content
from grmp_core.nano.groups import group_numbers, held_out, perceptual_hash, standardized
from grmp_core.nano.photo_store import PhotoStore, SourcePhoto, write_store
from grmp_core.nano.teacher import Teacher, read_start_weights, teacher_view

RATED = "biq2021"
RATED_SUBSETS = ("ss01", "ss03")
"""Subsets of BIQ2021 that training may see; ss02 is a target."""


@dataclass(frozen=True)
class Material:
    store: PhotoStore
    content: Content
    class_words: list[str]
    features_NF: np.ndarray
    """Standardized, unit length; neighbours are found by them."""
    hashes_N: np.ndarray
    groups_N: np.ndarray
    is_held_out_N: np.ndarray

    @property
    def training(self) -> np.ndarray:
        """Numbers of the photos that training sees."""
        return np.flatnonzero(~self.is_held_out_N)

    def validation(self, source: str) -> np.ndarray:
        """Numbers of the held-out photos of one source."""
        of_source = np.array([row.source == source for row in self.store.rows])
        return np.flatnonzero(self.is_held_out_N & of_source)


@dataclass(frozen=True)
class Described:
    """Photos of a target, with what finds their neighbours among those of training."""

    store: PhotoStore
    features_NF: np.ndarray
    """On the scale of the training material's."""
    hashes_N: np.ndarray


def sources_of(
    scores: Path, rated_photos: Path, pristine: Iterable[Path] = (), subsets: Sequence[str] = RATED_SUBSETS
) -> list[SourcePhoto]:
    """Rated photos of `subsets` in the table `scores` (image, mos), and all photos of other folders.

    InputError for a table without those columns, or a rated photo that is not there.
    """
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"image", "mos"} <= set(rows[0]):
        raise InputError(f"'{scores}' has no columns image and mos; give BIQ2021's training table")
    chosen = {row["image"]: float(row["mos"]) for row in rows if row["image"].startswith(tuple(subsets))}
    missing = [name for name in chosen if not (rated_photos / name).is_file()]
    if missing:
        raise InputError(f"{len(missing)} rated photos are not in '{rated_photos}', such as '{missing[0]}'")
    photos = [
        SourcePhoto(path=rated_photos / name, source=RATED, score=score) for name, score in sorted(chosen.items())
    ]
    for folder in pristine:
        photos += [SourcePhoto(path=Path(path), source=folder.name) for path in list_images(str(folder)).paths]
    return photos


def photos_of(dataset: str, folder: str) -> list[SourcePhoto]:
    """The photos of a published set with their scores, without those that are missing."""
    labelled = load(dataset, folder, max_reject_fraction=1.0)
    scored = zip(labelled.image_paths, labelled.mos.tolist(), strict=True)
    return [SourcePhoto(path=Path(path), source=dataset, score=score) for path, score in scored]


def prepare(folder: Path, photos: Iterable[SourcePhoto], start_weights: Path) -> list[str]:
    """Make a folder of material; -> the names of unreadable photos, which are left out."""
    unreadable = write_store(folder, photos)
    store = PhotoStore(folder)
    classes, features = describe(store, start_weights)
    np.save(folder / "classes.npy", classes)
    np.save(folder / "features.npy", features)
    np.save(folder / "hashes.npy", np.array([perceptual_hash(store.pixels(i)) for i in range(len(store))]))
    return unreadable


def describe(store: PhotoStore, start_weights: Path, photos_at_once: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """-> class probabilities (N, C) and features (N, F), float16, from the teacher in bfloat16."""
    teacher = Teacher(read_start_weights(start_weights)).bfloat16().to(memory_format=torch.channels_last)
    classes, features = [], []
    for start in range(0, len(store), photos_at_once):
        numbers = range(start, min(start + photos_at_once, len(store)))
        logits, found = teacher(torch.from_numpy(np.stack([teacher_view(store.pixels(i)) for i in numbers])))
        classes.append(logits.softmax(dim=-1).half().numpy())
        features.append(found.half().numpy())
    return np.concatenate(classes), np.concatenate(features)


def read_described(folder: Path, material: Material) -> Described:
    """A target's folder, made by `prepare` like one of material."""
    scale = np.load(material.store.folder / "features.npy").astype(np.float32)
    store, features, hashes = _read(folder)
    return Described(store, standardized(features, scale.mean(axis=0), scale.std(axis=0)), hashes)


def read_material(folder: Path) -> Material:
    """InputError for a folder that `prepare` has not finished."""
    store, features, hashes = _read(folder)
    words = class_words_of(store)
    classes = np.load(folder / "classes.npy", mmap_mode="r")
    unit = standardized(features, features.mean(axis=0), features.std(axis=0))
    groups = group_numbers(hashes, unit)
    kept_out = held_out(groups, [row.sha256 for row in store.rows])
    content = Content(classes, scene_table([word.replace(" ", "_") for word in words]))
    return Material(store, content, words, unit, hashes, groups, kept_out)


def write_hashes(folder: Path, file: Path) -> np.ndarray:
    """Write the perceptual hashes of all photos of a folder of material, held-out ones included, as one sorted array.

    InputError for a folder that `prepare` has not finished.
    """
    hashes = np.sort(_read(folder)[2])
    np.save(file, hashes)
    return hashes


def _read(folder: Path) -> tuple[PhotoStore, np.ndarray, np.ndarray]:
    store = PhotoStore(folder)
    for name in ("classes.npy", "features.npy", "hashes.npy"):
        if not (folder / name).is_file():
            raise InputError(f"'{folder}' lacks {name}; run `prepare` again")
    return store, np.load(folder / "features.npy").astype(np.float32), np.load(folder / "hashes.npy")


def class_words_of(store: PhotoStore) -> list[str]:
    """ImageNet's 1,000 class words in its order, from the names of one sample photo a class."""
    stems = sorted(Path(row.name).stem for row in store.rows if class_word(Path(row.name).stem))
    words = [word for stem in stems if (word := class_word(stem))]
    if len(words) != 1000:
        raise InputError(f"{len(words)} photos are named after an ImageNet class, 1,000 are needed: one a class")
    return words

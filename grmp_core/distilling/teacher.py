"""Teachers: whatever gives pictures scores. A bundle is one; others are plug-ins of installed packages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

import numpy as np
import torch

from grmp_core.errors import InputError
from grmp_core.model.scorer import Scorer

GROUP = "grmp.teachers"
"""Entry-point group of the plug-ins."""


class TeacherError(Exception):
    """A teacher that has given no scores, in one line."""


class Teacher(Protocol):
    """The object that an entry point of `GROUP` names. It may have `parameters`, the number of its weights, too."""

    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str:
        """Of its scores, as people read it: `MIT`, `unknown`."""
        ...

    def __call__(self, images: list[np.ndarray]) -> Sequence[float]:
        """uint8 RGB pictures (H, W, 3) -> a score each, higher better, on any scale."""
        ...


@dataclass(frozen=True, kw_only=True)
class BundleTeacher:
    """A bundle's quality, in [0, 1], of pictures as they are."""

    scorer: Scorer
    name: str
    licence: str = "as its card says"
    pictures_at_once: int = 1
    """Pictures of a forward pass, where all of them have the model's input size. With the views of one image in each
    pass, no other image changes a score in its last bits."""

    def __call__(self, images: list[np.ndarray]) -> list[float]:
        size_px = self.scorer.predictor.model.image_size_px
        if all(image.shape[:2] == (size_px, size_px) for image in images):
            parts = torch.from_numpy(np.stack(images)).split(self.pictures_at_once)
            return [quality for part in parts for quality in self.scorer.predictor(part).tolist()]
        scores = self.scorer.score(images)
        failed = next((score.error for score in scores if score.error is not None), None)
        if failed is not None:
            raise TeacherError(failed)
        return [score.quality for score in scores]


def plugin_of(name: str) -> Teacher | None:
    """The teacher of this name among the installed plug-ins; null where there is none.

    InputError for two of the same name, and for one that cannot be loaded or is no teacher.
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        return None
    if len(found) > 1:
        raise InputError(f"teacher '{name}': {len(found)} installed packages have one of this name; remove the others")
    [entry] = found
    teacher = _loaded(entry)
    named = all(isinstance(getattr(teacher, part, None), str) for part in ("name", "licence"))
    if not callable(teacher) or isinstance(teacher, type) or not named:
        raise InputError(
            f"teacher '{name}' ({entry.value}) is no callable with a name and a licence; docs/distil.md shows one"
        )
    return teacher


def plugin_version(name: str) -> str:
    """Version of the package that a plug-in comes with; `unknown` where it has none."""
    versions = [entry.dist.version for entry in entry_points(group=GROUP, name=name) if entry.dist is not None]
    return versions[0] if versions else "unknown"


def _loaded(entry: EntryPoint) -> Teacher:
    try:
        loaded: Teacher = entry.load()
        return loaded
    except Exception as error:  # an import may raise anything
        raise InputError(f"teacher '{entry.name}' ({entry.value}) cannot be loaded ({_told(error)})") from error


def scores_of(teacher: Teacher, images: list[np.ndarray]) -> list[float]:
    """One finite score per picture. TeacherError where the teacher raises, or gives another number or a NaN."""
    try:
        scores = [float(score) for score in teacher(images)]
    except TeacherError as error:
        raise TeacherError(f"teacher {teacher.name} failed: {error}") from error
    except Exception as error:  # of another program
        raise TeacherError(f"teacher {teacher.name} failed ({_told(error)})") from error
    if len(scores) != len(images):
        raise TeacherError(f"teacher {teacher.name} gave {len(scores)} scores for {len(images)} pictures")
    bad = next((score for score in scores if not math.isfinite(score)), None)
    if bad is not None:
        raise TeacherError(f"teacher {teacher.name} gave the score {bad}")
    return scores


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

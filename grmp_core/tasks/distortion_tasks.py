"""Distortion tasks: one task is one distortion type; its images are views of distorted references with a label.

A composed task applies two to four types one after the other; its name joins theirs by `-`. In a row of it one type,
drawn, has the row's level, and the others are as mild as they come.

A row of a task is a pure function of (reference pixels, reference id, task, level, seed): stored, streamed, on one
machine or on many, it is the same row.

Shapes: views (n, size, size, 3) uint8 RGB; quality (n,) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from grmp_core.distortions import check_composition, compose, draw_composition
from grmp_core.errors import InputError
from grmp_core.imaging.views import at_least, at_most
from grmp_core.labels.human_means import combined_quality, mildest_level, quality_of, quality_of_composition
from grmp_core.labels.visibility import Appearance, quality_of_picture
from grmp_core.seeds import generator_of, seed_of

Part = Literal["support", "query"]
Labels = Literal["mean", "picture", "overall"]
"""Knowledge in a row's label: its type and level (`mean`), also how visible the damage is on the picture (`picture`),
also the quality of the picture before (`overall`)."""
LEVELS = (1, 2, 3, 4, 5)
COMPOSITION_RULE = "one type leads, the others at their mildest"
"""Names what `parts_of` does with compositions; a store that was made by another rule is another store."""
_JOIN = "-"  # no type has it in its name, and it is safe in file names


@dataclass(frozen=True)
class TaskRow:
    """One labelled image of a task."""

    task: str
    view_HW3: np.ndarray
    quality: float
    level: int
    severity: float
    reference_id: str
    part: Part
    seed: int


def types_of(task: str) -> tuple[str, ...]:
    """`jpeg` -> (jpeg,); `darken-jpeg` -> (darken, jpeg). InputError for what cannot be composed."""
    types = tuple(task.split(_JOIN))
    check_composition(types)
    return types


def draw_composed_tasks(count: int, seed: int) -> tuple[str, ...]:
    """Names of `count` different compositions of two to four KADID-10k types, of different groups, in random order."""
    rng = generator_of("composed tasks", seed)
    names: dict[str, None] = {}
    while len(names) < count:
        types = [name for name, _ in draw_composition(rng)]
        if len(types) > 1:
            names[_JOIN.join(types)] = None
    return tuple(names)


def parts_of(task: str, level: int, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
    """(type, severity) of what a row applies, in order.

    Of a composition one type leads: with all of them at the row's level, hardly a picture would be a good one.
    """
    types = types_of(task)
    leading = int(rng.integers(len(types))) if len(types) > 1 else 0
    return tuple((name, float(level if i == leading else mildest_level(name))) for i, name in enumerate(types))


def split_references(reference_ids: Iterable[str], query_fraction: float, seed: int) -> dict[str, Part]:
    """Give every reference to support or to query, so that no task shows one picture in both.

    InputError when one part would be empty.
    """
    ids = sorted(set(reference_ids), key=lambda reference_id: seed_of("part", seed, reference_id))
    num_query = round(len(ids) * query_fraction)
    if not 0 < num_query < len(ids):
        raise InputError(
            f"{len(ids)} reference images with synthesize.query_fraction={query_fraction} leave support or query "
            "empty; give more references or another fraction"
        )
    return {reference_id: "query" if rank < num_query else "support" for rank, reference_id in enumerate(ids)}


def prepare_reference(image_HW3: np.ndarray, size_px: int, short_side_px: int) -> np.ndarray:
    """The pristine picture that is distorted: shrunk to `short_side_px` (0: never), enlarged to the view size."""
    image = at_most(image_HW3, max(short_side_px, size_px)) if short_side_px else image_HW3
    return at_least(image, size_px)


def draw_view(shape_HW: tuple[int, ...], size_px: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random square view in a picture of that shape."""
    top, left = (int(rng.integers(side - size_px + 1)) for side in shape_HW)
    return slice(top, top + size_px), slice(left, left + size_px)


def synthesize_row(
    reference_HW3: np.ndarray,
    reference_id: str,
    part: Part,
    task: str,
    level: int,
    size_px: int,
    seed: int,
    labels: Labels = "mean",
    appearance: Appearance | None = None,
    quality_before: float | None = None,
) -> TaskRow:
    """Distort a prepared reference as a whole, then cut one view out of it.

    Args:
        labels: with `overall`, `quality_before` and the damage add by the rule of compositions, as in the training of
            the embedded backbone. Compositions have the label of their rule in place of the other two.
        appearance: of the reference, for a caller who makes many rows of it.
        quality_before: of the undamaged reference, in [0, 1]; `overall` needs it.

    Raises:
        InputError: `overall` without `quality_before`.
    """
    row_seed = seed_of("row", seed, reference_id, task, level)
    rng = np.random.Generator(np.random.PCG64(row_seed))
    rows, columns = draw_view(reference_HW3.shape[:2], size_px, rng)
    parts = parts_of(task, level, rng)
    distorted = compose(reference_HW3, parts, rng)
    view = np.ascontiguousarray(distorted[rows, columns])
    if len(parts) > 1:
        quality = quality_of_composition(parts)
    elif labels == "mean":
        quality = quality_of(task, float(level))
    else:
        seen = appearance or Appearance(reference_HW3)
        quality = quality_of_picture(task, float(level), seen.differences(distorted))
    if labels == "overall":
        if quality_before is None:
            raise InputError("labels overall: the quality of the undamaged picture is needed")
        quality = round(combined_quality([quality_before, quality]), 4)
    return TaskRow(task, view, quality, level, float(level), reference_id, part, row_seed)

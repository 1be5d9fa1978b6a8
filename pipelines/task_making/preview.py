"""Contact sheet of all tasks: their effect on one photo, level by level, with the label of each picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from grmp_core.distortions import REGISTRY
from grmp_core.errors import InputError
from grmp_core.imaging.views import at_least
from grmp_core.labels.visibility import Appearance
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from grmp_core.tasks.distortion_tasks import LEVELS, synthesize_row, types_of
from pipelines.configuration.schema import Config
from pipelines.rendering.contact_sheet import Group, Line, Sheet, Tile, to_html, to_png
from pipelines.task_making.picture_quality import quality_of_picture
from pipelines.task_making.picture_sources import (
    RATED_TYPES,
    Reference,
    Synthesizer,
    photo_references,
    rated_references,
    task_names,
)

TILE_PX = 176
SCENE_PX = 512
"""Of a larger photo the middle square of this size is distorted: enough for every type, and quick."""
SPARED = 1 / 3
"""The middle counts as spared when it changed less than this share of the most changed place."""

PictureOf = Callable[[str, int], tuple[np.ndarray, float]]
"""(task, level) -> distorted picture, uint8 (H, W, 3), and its quality."""


@dataclass(frozen=True)
class Preview:
    """Result of `grmp preview`."""

    file: str
    picture: str
    tiles: int

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def as_text(self) -> str:
        return f"{self.tiles} tiles of {self.picture}\n{self.file}"


def write_preview(config: Config) -> Preview:
    """Write the contact sheet to `preview.output`. No task store is touched and no Ray is started."""
    if config.preview.output is None:
        raise InputError("nothing to write to: give preview.output (grmp preview sheet.html)")
    file = locate(config.preview.output)
    sheet = make_sheet(config)
    file.write_bytes(to_png(sheet) if file.path.endswith(".png") else to_html(sheet).encode())
    return Preview(file.uri, sheet.title, sum(len(line.tiles) for group in sheet.groups for line in group.lines))


def make_sheet(config: Config) -> Sheet:
    """Tiles of `preview.image`, or of the first reference of the source. ImageError if it cannot be read."""
    reference = _reference(config)
    reader = Synthesizer(TILE_PX, config.synthesize.short_side_px, config.seed, config.images)
    if reference.rated:
        return _rated_sheet(config, reference, reader)
    pristine = reader.pristine(reference)
    scene = _middle(pristine, min(SCENE_PX, *pristine.shape[:2]))

    labels = config.synthesize.labels
    appearance = None if labels == "mean" else Appearance(scene)
    before = quality_of_picture(config, pristine) if labels == "overall" else None

    def picture_of(task: str, level: int) -> tuple[np.ndarray, float]:
        side, seed = scene.shape[0], config.seed
        row = synthesize_row(
            scene, reference.reference_id, "support", task, level, side, seed, labels, appearance, before
        )
        return row.view_HW3, row.quality

    remark = (
        f"{pristine.shape[1]} x {pristine.shape[0]} px as distorted; tiles of {TILE_PX} px at that resolution, from "
        "the middle unless the damage lies elsewhere. Below each its level and label: quality from 0 (worst) to 1."
    )
    untouched = Tile(_middle(scene, TILE_PX), "untouched")
    return Sheet(reference.reference_id, remark, untouched, _groups(config, picture_of, scene))


def _rated_sheet(config: Config, reference: Reference, reader: Synthesizer) -> Sheet:
    """The published set's own pictures and scores."""

    def picture_of(task: str, level: int) -> tuple[np.ndarray, float]:
        rated = reference.rated[task, level]
        return at_least(reader.read(rated.uri), TILE_PX), rated.quality

    remark = (
        f"Pictures of {config.synthesize.source}; tiles of {TILE_PX} px at their resolution, from the middle. Below "
        "each its level and label: mean human score from 0 (worst) to 1."
    )
    return Sheet(reference.reference_id, remark, None, _groups(config, picture_of, None))


def _reference(config: Config) -> Reference:
    settings = config.synthesize
    if config.preview.image:
        return Reference(config.preview.image.rpartition("/")[2], config.preview.image)
    if settings.source == "procedural":
        return Reference(scenes.reference_id(0))
    if settings.source not in RATED_TYPES:
        return photo_references(config)[0]
    count = len(task_names(config)) * len(LEVELS)
    for reference in rated_references(config)[0]:
        if len(reference.rated) == count:
            return reference
    raise InputError(
        f"{settings.path}: no reference has all {count} pictures of the wanted tasks; complete the download, or name "
        "the tasks it has in synthesize.tasks"
    )


def _groups(config: Config, picture_of: PictureOf, scene: np.ndarray | None) -> list[Group]:
    """Lines of all tasks, under the families of their distortions."""
    lines: dict[str, list[Line]] = defaultdict(list)
    for task in task_names(config):
        tiles = []
        for level in LEVELS:
            picture, quality = picture_of(task, level)
            image = _middle(picture, TILE_PX) if scene is None else _damaged_part(scene, picture)
            tiles.append(Tile(image, f"level {level} · {quality:.2f}"))
        group, description = _about(task)
        lines[group].append(Line(task, description, tiles))
    return [Group(name.replace("_", " and ").capitalize(), members) for name, members in lines.items()]


def _about(task: str) -> tuple[str, str]:
    """Family and description of a task."""
    types = types_of(task)
    if len(types) == 1:
        return REGISTRY[task].group, REGISTRY[task].description
    return "compositions", ", then ".join(name.replace("_", " ") for name in types)


def _damaged_part(scene: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The middle of `picture`; where it was spared, the part that differs most from `scene`."""
    change = cv2.absdiff(scene, picture).mean(axis=2, dtype=np.float32)
    height, width = (side - TILE_PX + 1 for side in change.shape)
    sums = cv2.integral(change)
    by_place = sums[TILE_PX:, TILE_PX:] - sums[TILE_PX:, :width] - sums[:height, TILE_PX:] + sums[:height, :width]
    if _middle(change, TILE_PX).sum() >= SPARED * by_place.max():
        return _middle(picture, TILE_PX)
    top, left = np.unravel_index(by_place.argmax(), by_place.shape)
    return np.ascontiguousarray(picture[top : top + TILE_PX, left : left + TILE_PX])


def _middle(image: np.ndarray, side_px: int) -> np.ndarray:
    top, left = ((side - side_px) // 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side_px, left : left + side_px])

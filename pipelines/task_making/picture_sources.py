"""Sources of tasks: drawn pictures, photos, or a published set with its own distortions and scores."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.data import TaskPoolStrategy

from grmp_core import datasets
from grmp_core.datasets.rejects import refuse_too_many
from grmp_core.distortions import KADID_NAMES, REGISTRY
from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import ImageLimits, image_bytes, read_image
from grmp_core.imaging.listing import Listing
from grmp_core.imaging.views import at_least
from grmp_core.labels.visibility import Appearance
from grmp_core.procedural import scenes
from grmp_core.seeds import seed_of
from grmp_core.tasks.distortion_tasks import (
    LEVELS,
    Labels,
    Part,
    TaskRow,
    draw_composed_tasks,
    draw_view,
    prepare_reference,
    synthesize_row,
    types_of,
)
from pipelines.runtime.console import say
from pipelines.runtime.image_listing import listed

if TYPE_CHECKING:
    from pipelines.configuration.schema import Config

RATED_TYPES = {name: datasets.distortions_of(name) for name in ("kadid10k", "tid2013")}
"""Sources that bring distorted pictures with human scores, and the types they have."""
Rejects = list[dict[str, str]]
"""Files that cannot be used: path and reason."""


@dataclass(frozen=True)
class Rated:
    """A distorted picture of a published set."""

    uri: str
    quality: float
    """Its human score on the set's own scale, brought to [0, 1]."""


@dataclass(frozen=True)
class Reference:
    """A scene: a pristine picture (a file, or a number to draw it from), or the rated pictures made of it."""

    reference_id: str
    uri: str | None = None
    seed: int = 0
    quality: float | None = None
    """Of the undamaged picture, in [0, 1]; set where the labels build on it (`overall`)."""
    rated: Mapping[tuple[str, int], Rated] = field(default_factory=dict)
    """(task, level) -> picture, every one of them; empty where distortions are still to be applied."""


@dataclass(frozen=True)
class Synthesizer:
    """All that a worker needs to make rows; small, so it travels with every task."""

    size_px: int
    short_side_px: int
    seed: int
    limits: ImageLimits
    labels: Labels = "picture"

    def rows_of(self, reference: Reference, part: Part) -> Callable[[str, int], TaskRow]:
        """-> a function of (task, level). What all rows of the reference share is read here, once."""
        if reference.rated:
            return partial(self._rated_row, reference, part)
        pristine = self.pristine(reference)
        appearance = None if self.labels == "mean" else Appearance(pristine)
        return partial(self._synthesized_row, pristine, appearance, reference, part)

    def pristine(self, reference: Reference) -> np.ndarray:
        """The picture to distort, prepared. ImageError when the file cannot be used."""
        image = scenes.reference(reference.seed) if reference.uri is None else self.read(reference.uri)
        return prepare_reference(image, self.size_px, self.short_side_px)

    def read(self, uri: str) -> np.ndarray:
        """A picture as it is. ImageError when the file cannot be used."""
        return read_image(image_bytes(uri), self.limits)

    def rated_picture(self, uri: str) -> np.ndarray:
        """A picture with room for a view. ImageError when the file cannot be used."""
        return at_least(self.read(uri), self.size_px)

    def _synthesized_row(
        self,
        pristine: np.ndarray,
        appearance: Appearance | None,
        reference: Reference,
        part: Part,
        task: str,
        level: int,
    ) -> TaskRow:
        return synthesize_row(
            pristine,
            reference.reference_id,
            part,
            task,
            level,
            self.size_px,
            self.seed,
            self.labels,
            appearance,
            reference.quality,
        )

    def _rated_row(self, reference: Reference, part: Part, task: str, level: int) -> TaskRow:
        """A view of a rated picture. The picture is never shrunk: its score was given at its own size."""
        rated = reference.rated[task, level]
        picture = self.rated_picture(rated.uri)
        row_seed = seed_of("row", self.seed, reference.reference_id, task, level)
        rng = np.random.Generator(np.random.PCG64(row_seed))
        view = np.ascontiguousarray(picture[draw_view(picture.shape[:2], self.size_px, rng)])
        return TaskRow(task, view, rated.quality, level, float(level), reference.reference_id, part, row_seed)


def synthesizer_of(config: Config) -> Synthesizer:
    """The settings that decide about pixels."""
    settings = config.synthesize
    return Synthesizer(view_size_px(config), settings.short_side_px, config.seed, config.images, settings.labels)


def view_size_px(config: Config) -> int:
    """The backbone's input size, from its architecture alone."""
    import open_clip

    import grmp_core.model.backbone  # noqa: F401  # open_clip knows the embedded one by it

    description = open_clip.get_model_config(config.backbone.name)
    if description is None:
        raise InputError(f"backbone.name '{config.backbone.name}' is unknown to open_clip; see open_clip.list_models()")
    size = description["vision_cfg"].get("image_size", 224)
    return int(size if isinstance(size, int) else size[0])


def task_names(config: Config) -> tuple[str, ...]:
    """The tasks of a run. InputError for a name that no distortion has, or that is not in the published set."""
    source, names = config.synthesize.source, config.synthesize.tasks
    composed = draw_composed_tasks(config.synthesize.compositions, config.seed)
    in_set = RATED_TYPES.get(source)
    if in_set and composed:
        raise InputError(f"synthesize.compositions: nobody rated compositions in {source}; set it to 0")
    if names == ("all",):
        names = in_set or tuple(REGISTRY)
    for name in names:
        types_of(name)
        if in_set and name not in in_set:
            raise InputError(f"synthesize.tasks: {source} has no {name}; leave it out, or use synthesize.source photos")
    return tuple(dict.fromkeys([*(names or in_set or KADID_NAMES), *composed]))


def scan_references(config: Config, listing: Listing | None = None) -> tuple[list[Reference], Rejects]:
    """Usable references and, with reasons, the files that cannot be used. InputError when those are too many.

    listing: of the photos, for a caller who has it.
    """
    if config.synthesize.source == "procedural":
        return [Reference(scenes.reference_id(i), seed=i) for i in range(config.synthesize.references or 40)], []
    return _scan_rated(config) if config.synthesize.source in RATED_TYPES else _scan_photos(config, listing)


def photo_listing(config: Config) -> Listing:
    """The photos of `synthesize.path`, of a published set its originals there, with a line of what is not taken; empty
    for sources without photos."""
    source, path = config.synthesize.source, config.synthesize.path or ""
    if source == "procedural" or source in RATED_TYPES:
        return Listing(())
    return listed(path if source == "photos" else datasets.originals_of(source, path))


def photo_references(config: Config, listing: Listing | None = None) -> list[Reference]:
    """The photos of `synthesize.path`, not opened yet; their ids do not change when the folder is moved.

    listing: of that path, for a caller who has it.
    """
    settings = config.synthesize
    uris = list((listing or photo_listing(config)).paths)
    if settings.references:
        uris = uris[: settings.references]
    root = os.path.commonprefix(uris).rpartition("/")[0]  # noqa: RUF071  # cut at a slash: ids travel with a folder
    return [Reference(uri.removeprefix(root).lstrip("/"), uri) for uri in uris]


def rated_references(config: Config) -> tuple[list[Reference], Rejects]:
    """The references of a published set with their pictures of the wanted tasks, not opened yet, and bad label rows.

    InputError when the folder is not the set as released.
    """
    settings, tasks = config.synthesize, set(task_names(config))
    # Rejects of loading and of decoding count together, so the loader is to refuse none on its own.
    labelled = datasets.load(settings.source, settings.path or "", max_reject_fraction=1.0)
    by_reference: dict[str, dict[tuple[str, int], Rated]] = defaultdict(dict)
    for row in labelled.table.to_pylist():
        if row["distortion"] in tasks:
            by_reference[row["reference_id"]][row["distortion"], row["level"]] = Rated(
                row["image_path"], row["quality"]
            )
    references = [Reference(name, rated=pictures) for name, pictures in sorted(by_reference.items())]
    rejected = [{"path": reject.path, "reason": reject.reason} for reject in labelled.rejected]
    return references[: settings.references or None], rejected


def _scan_photos(config: Config, listing: Listing | None) -> tuple[list[Reference], Rejects]:
    candidates = photo_references(config, listing)
    synthesizer = synthesizer_of(config)
    reasons = _reasons(len(candidates), lambda i: synthesizer.pristine(candidates[i]))
    rejected = [{"path": candidates[i].uri or "", "reason": reason} for i, reason in reasons.items()]
    _check_rejects(config, rejected, len(candidates))
    return [r for i, r in enumerate(candidates) if i not in reasons], rejected


def _scan_rated(config: Config) -> tuple[list[Reference], Rejects]:
    """References of which every picture is usable: a task store has each of them in all tasks at all levels."""
    candidates, rejected = rated_references(config)
    synthesizer = synthesizer_of(config)
    uris = [picture.uri for reference in candidates for picture in reference.rated.values()]
    reasons = _reasons(len(uris), lambda i: synthesizer.rated_picture(uris[i]))
    rejected += [{"path": uris[i], "reason": reason} for i, reason in reasons.items()]
    _check_rejects(config, rejected, len(uris) + len(rejected) - len(reasons))
    unusable = {uris[i] for i in reasons}
    complete = len(task_names(config)) * len(LEVELS)
    usable = []
    for reference in candidates:
        count = sum(picture.uri not in unusable for picture in reference.rated.values())
        if count == complete:
            usable.append(reference)
        else:
            reason = f"left out: {complete - count} of its {complete} pictures cannot be used"
            rejected.append({"path": reference.reference_id, "reason": reason})
            say(f"synthesize: {reference.reference_id} {reason}")
    if not usable:
        raise InputError(
            f"{config.synthesize.path}: no reference has all {complete} pictures of the wanted tasks; complete the "
            "download, or name the tasks it has in synthesize.tasks"
        )
    return usable, rejected


def _reasons(count: int, read: Callable[[int], object]) -> dict[int, str]:
    """Number of the file -> why `read` of it failed, tried for all of them on the whole cluster."""

    def check(row: dict[str, Any]) -> dict[str, Any]:
        try:
            read(row["id"])
        except ImageError as error:
            return {"index": row["id"], "reason": error.reason}
        return {"index": row["id"], "reason": ""}

    checked = ray.data.range(count).map(check, compute=TaskPoolStrategy())
    return {row["index"]: row["reason"] for row in sorted(checked.iter_rows(), key=_index) if row["reason"]}


def _index(row: dict[str, Any]) -> int:
    return int(row["index"])


def _check_rejects(config: Config, rejected: Sequence[dict[str, str]], count: int) -> None:
    """Say which pictures are left out. InputError when they are more than synthesize.max_reject_fraction allows."""
    reasons = [f"{reject['path']}: {reject['reason']}" for reject in rejected]
    what, setting = f"pictures in {config.synthesize.path}", "synthesize.max_reject_fraction"
    refuse_too_many(reasons, count, config.synthesize.max_reject_fraction, what, setting)
    for reject in rejected:
        say(f"synthesize: skipped {reject['path']}: {reject['reason']}")

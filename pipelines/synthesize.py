"""Distortion tasks from pristine pictures with Ray Data: to a task store, or streamed into pre-training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.data import TaskPoolStrategy

from grmp_core import references
from grmp_core.distortions import KADID_NAMES, get
from grmp_core.errors import InputError
from grmp_core.images import IMAGE_SUFFIXES, ImageError, ImageLimits, list_images, read_image
from grmp_core.meta import MetaConfig
from grmp_core.storage import Location, locate
from grmp_core.task_store import write_task_file
from grmp_core.tasks import (
    LEVELS,
    EpisodePlan,
    Part,
    TaskRow,
    plan_episode,
    prepare_reference,
    split_references,
    synthesize_row,
    tasks_of_step,
)
from pipelines.config import Config
from pipelines.session import config_hash, output_place, ray_session, say, table, write_manifest


@dataclass(frozen=True)
class Reference:
    """A pristine picture: a file, or a number to draw it from."""

    reference_id: str
    uri: str | None
    seed: int


@dataclass(frozen=True)
class Synthesizer:
    """All that a worker needs to make rows; small, so it travels with every task."""

    size_px: int
    short_side_px: int
    seed: int
    limits: ImageLimits

    def pristine(self, reference: Reference) -> np.ndarray:
        """The prepared picture. ImageError when the file cannot be used."""
        if reference.uri is None:
            image = references.reference(reference.seed)
        else:
            try:
                data = locate(reference.uri).read_bytes()
            except OSError as error:
                raise ImageError(f"cannot be read ({error.strerror or error})", reference.uri) from error
            image = read_image(data, self.limits)
        return prepare_reference(image, self.size_px, self.short_side_px)

    def row(self, pristine: np.ndarray, reference_id: str, part: Part, task: str, level: int) -> TaskRow:
        """One labelled view of a task."""
        return synthesize_row(pristine, reference_id, part, task, level, self.size_px, self.seed)


@dataclass(frozen=True)
class Synthesis:
    """Result of `grmp synthesize`."""

    store: str
    tasks: int
    references: int
    rows: int
    bytes: int
    rejected: tuple[dict[str, str], ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__, "rejected": list(self.rejected)}

    def as_text(self) -> str:
        row = {
            "tasks": self.tasks,
            "references": self.references,
            "images": self.rows,
            "MB": round(self.bytes / 1e6, 1),
            "rejected": len(self.rejected),
            "seconds": round(self.seconds, 1),
        }
        return f"{table([row])}\n{self.store}"


def run(config: Config) -> Synthesis:
    """Write the task store `<output>/tasks`. Blocks of references that are already there are not made again."""
    started = time.time()
    place = output_place(config, "tasks")
    with ray_session():
        usable, rejected = scan_references(config)
        plan = _fingerprint(config, usable)
        if _existing_plan(place) not in (None, plan):
            raise InputError(
                f"{place.uri} holds tasks made with other settings or photos; choose another output, "
                "or delete that folder"
            )
        parts = split_references([r.reference_id for r in usable], config.synthesize.query_fraction, config.seed)
        (place / "plan.json").write_json({"fingerprint": plan, "references": parts})
        size = config.synthesize.references_per_block
        blocks = [usable[i : i + size] for i in range(0, len(usable), size)]
        writer = BlockWriter(synthesizer_of(config), tuple(blocks), parts, task_names(config), place)
        dataset = ray.data.range(len(blocks), override_num_blocks=len(blocks)).map(
            writer.write, compute=TaskPoolStrategy()
        )
        rows = bytes_written = 0
        for done, block in enumerate(dataset.iter_rows(), start=1):
            rows += block["rows"]
            bytes_written += block["bytes"]
            say(f"synthesize: block {done}/{len(blocks)}, {rows} images")
    names = task_names(config)
    write_manifest(
        place,
        "synthesize",
        config,
        started,
        inputs={"fingerprint": plan},
        counts={"tasks": len(names), "references": len(usable), "images": rows, "bytes": bytes_written},
        rejected=rejected,
    )
    return Synthesis(place.uri, len(names), len(usable), rows, bytes_written, tuple(rejected), time.time() - started)


def task_names(config: Config) -> tuple[str, ...]:
    """The tasks of a run. InputError for a name that no distortion has."""
    names = config.synthesize.tasks or KADID_NAMES
    for name in names:
        get(name)
    return tuple(names)


def synthesizer_of(config: Config) -> Synthesizer:
    """The settings that decide about pixels."""
    return Synthesizer(view_size_px(config), config.synthesize.short_side_px, config.seed, config.images)


def view_size_px(config: Config) -> int:
    """The backbone's input size, from its architecture alone."""
    import open_clip

    from grmp_core.backbone import register_embedded

    register_embedded()
    description = open_clip.get_model_config(config.backbone.name)
    if description is None:
        raise InputError(f"backbone.name '{config.backbone.name}' is unknown to open_clip; see open_clip.list_models()")
    size = description["vision_cfg"].get("image_size", 224)
    return int(size if isinstance(size, int) else size[0])


def scan_references(config: Config) -> tuple[list[Reference], list[dict[str, str]]]:
    """Usable references and, with reasons, the photos that cannot be used. InputError when those are too many."""
    wanted = config.synthesize
    if wanted.source == "procedural":
        count = wanted.references or 40
        return [Reference(references.reference_id(i), None, i) for i in range(count)], []
    uris = list_photos(wanted.path or "")
    if wanted.references:
        uris = uris[: wanted.references]
    root = os.path.commonprefix(uris).rpartition("/")[0]  # noqa: RUF071  # cut at a slash: ids travel with a folder
    candidates = [Reference(uri.removeprefix(root).lstrip("/"), uri, 0) for uri in uris]
    synthesizer = synthesizer_of(config)

    def check(row: dict[str, Any]) -> dict[str, Any]:
        try:
            synthesizer.pristine(candidates[row["id"]])
        except ImageError as error:
            return {"index": row["id"], "reason": error.reason}
        return {"index": row["id"], "reason": ""}

    checked = ray.data.range(len(candidates)).map(check, compute=TaskPoolStrategy())
    reasons = {row["index"]: row["reason"] for row in checked.iter_rows() if row["reason"]}
    rejected = [{"path": candidates[i].uri or "", "reason": reason} for i, reason in sorted(reasons.items())]
    if len(rejected) > wanted.max_reject_fraction * len(candidates):
        raise InputError(
            f"{len(rejected)} of {len(candidates)} photos in {wanted.path} cannot be used (first: "
            f"{rejected[0]['path']}: {rejected[0]['reason']}); repair them or raise synthesize.max_reject_fraction"
        )
    for reject in rejected:
        say(f"synthesize: skipped {reject['path']}: {reject['reason']}")
    return [r for i, r in enumerate(candidates) if i not in reasons], rejected


def list_photos(path: str) -> list[str]:
    """Image files of a folder, glob, or remote folder, sorted. InputError when there are none."""
    if "://" not in path:
        return list_images(path)
    found = [f.uri for f in locate(path).list(recursive=True) if f.path.lower().endswith(tuple(IMAGE_SUFFIXES))]
    if not found:
        raise InputError(f"no images below {path}; give a folder with {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return found


def stream_episodes(
    config: Config, usable: Sequence[Reference], steps: range, rank: int, world_size: int
) -> Iterator[dict[str, Any]]:
    """Episodes of `rank`, made on the fly: rows with task, step, and the views and labels of both parts, in order.

    The same rows as from a store: both are drawn by the same plan from the same generator.
    """
    parts = split_references([r.reference_id for r in usable], config.synthesize.query_fraction, config.seed)
    by_part: dict[Part, list[Reference]] = {
        part: sorted((r for r in usable if parts[r.reference_id] == part), key=lambda r: r.reference_id)
        for part in ("support", "query")
    }
    num_references: dict[Part, int] = {part: len(members) for part, members in by_part.items()}
    names = task_names(config)
    plans = [
        plan
        for step in steps
        for plan in worker_plans(names, step, num_references, config.meta, config.seed, rank, world_size)
    ]
    if not plans:
        return
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    maker = EpisodeMaker(synthesizer_of(config), by_part, tuple(plans))
    dataset = ray.data.range(len(plans), override_num_blocks=len(plans)).map(maker.make, compute=TaskPoolStrategy())
    yield from dataset.iter_rows()


def worker_plans(
    tasks: Sequence[str],
    step: int,
    num_references: dict[Part, int],
    config: MetaConfig,
    seed: int,
    rank: int,
    world_size: int,
) -> list[EpisodePlan]:
    """The episodes of an outer step that fall to `rank`: every world_size-th task."""
    chosen = tasks_of_step(tasks, step, config, seed)[rank::world_size]
    return [plan_episode(task, step, num_references, config, seed) for task in chosen]


@dataclass(frozen=True)
class EpisodeMaker:
    """Makes the planned episodes; runs in Ray Data's workers."""

    synthesizer: Synthesizer
    by_part: dict[Part, list[Reference]]
    plans: tuple[EpisodePlan, ...]

    def make(self, row: dict[str, Any]) -> dict[str, Any]:
        """Plan number `id` -> its task, step, and the views and labels of both parts."""
        plan = self.plans[row["id"]]
        support, query = self._rows(plan.task, "support", plan.support), self._rows(plan.task, "query", plan.query)
        return {
            "task": plan.task,
            "step": plan.step,
            "support_views": np.stack([r.view_HW3 for r in support]),
            "support_quality": np.array([r.quality for r in support], dtype=np.float32),
            "query_views": np.stack([r.view_HW3 for r in query]),
            "query_quality": np.array([r.quality for r in query], dtype=np.float32),
        }

    def _rows(self, task: str, part: Part, wanted: Sequence[tuple[int, int]]) -> list[TaskRow]:
        rows = []
        for index, level in wanted:
            reference = self.by_part[part][index]
            pristine = self.synthesizer.pristine(reference)
            rows.append(self.synthesizer.row(pristine, reference.reference_id, part, task, level))
        return rows


@dataclass(frozen=True)
class BlockWriter:
    """Writes all tasks of a few references: one file a task, named by the block, so that a repeat replaces."""

    synthesizer: Synthesizer
    blocks: tuple[Sequence[Reference], ...]
    parts: dict[str, Part]
    tasks: tuple[str, ...]
    place: Location

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        """Block number `id` -> how much was written; a block that is there already is left alone."""
        marker = self.place / "blocks" / f"{row['id']:05d}.json"
        if marker.exists():
            return marker.read_json()
        pristine = [(r.reference_id, self.synthesizer.pristine(r)) for r in self.blocks[row["id"]]]
        num_rows = num_bytes = 0
        for task in self.tasks:
            rows = [
                self.synthesizer.row(image, reference_id, self.parts[reference_id], task, level)
                for reference_id, image in pristine
                for level in LEVELS
            ]
            file = self.place / f"task={task}" / f"part-{row['id']:05d}.parquet"
            num_bytes += write_task_file(file, rows, self.synthesizer.size_px)
            num_rows += len(rows)
        marker.write_json({"rows": num_rows, "bytes": num_bytes})
        return {"rows": num_rows, "bytes": num_bytes}


def _fingerprint(config: Config, usable: Sequence[Reference]) -> str:
    """Differs when anything that decides about a row, or about the block it is in, differs."""
    ids = [reference.reference_id for reference in usable]
    wanted = (config.synthesize.query_fraction, config.synthesize.references_per_block)
    return config_hash(synthesizer_of(config), task_names(config), ids, wanted)


def _existing_plan(place: Location) -> str | None:
    plan = place / "plan.json"
    return str(plan.read_json().get("fingerprint")) if plan.exists() else None


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("synthesize")

"""Distortion tasks with Ray Data: to a task store, or streamed into pre-training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.data import TaskPoolStrategy

from grmp_core.attributes import OWN_QUALITY_RULE
from grmp_core.errors import InputError
from grmp_core.storage import Location, local_size_bytes
from grmp_core.task_store import write_task_file
from grmp_core.tasks import (
    COMPOSITION_RULE,
    LEVELS,
    EpisodePlan,
    Labels,
    Part,
    TaskRow,
    episodes_of_step,
    split_references,
    types_of,
)
from grmp_core.visibility import STRENGTH, curves
from pipelines.session import config_hash, output_place, ray_session, say, table, write_manifest
from pipelines.sources import (
    RATED_TYPES,
    Reference,
    Synthesizer,
    scan_references,
    synthesizer_of,
    task_names,
)

if TYPE_CHECKING:  # a worker that makes pictures needs neither torch nor matplotlib
    from pipelines.config import Config
    from pipelines.preview import Preview


PLAN = "plan.json"


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


def run(config: Config) -> Synthesis | Preview:
    """Write the task store `<output>/tasks`, or only the contact sheet `synthesize.preview` where that is set."""
    if not config.synthesize.preview:
        return write_store(config)
    from pipelines.preview import write_preview

    return write_preview(config)


def write_store(config: Config) -> Synthesis:
    """Write the task store. Blocks of references that are already there are not made again."""
    started = time.time()
    place, names = output_place(config, "tasks"), task_names(config)
    with ray_session():
        usable, rejected = scan_references(config)
        parts = split_references([r.reference_id for r in usable], config.synthesize.query_fraction, config.seed)
        plan = Plan(fingerprint(config, usable), config.synthesize.source, _label_rule_of(config), parts)
        if (place / PLAN).exists() and Plan.of(place) != plan:
            raise InputError(
                f"{place.uri} holds tasks made with other settings or photos; choose another output, "
                "or delete that folder"
            )
        (place / PLAN).write_json(asdict(plan))
        rows, bytes_written = write_blocks(block_writer(config, usable, parts, place))
    write_manifest(
        place,
        "synthesize",
        config,
        started,
        inputs={"fingerprint": plan.fingerprint},
        counts={"tasks": len(names), "references": len(usable), "images": rows, "bytes": bytes_written},
        rejected=rejected,
    )
    return Synthesis(place.uri, len(names), len(usable), rows, bytes_written, tuple(rejected), time.time() - started)


def block_writer(config: Config, usable: Sequence[Reference], parts: dict[str, Part], place: Location) -> BlockWriter:
    """What makes the store at `place`, block by block."""
    size = config.synthesize.references_per_block
    blocks = tuple(usable[i : i + size] for i in range(0, len(usable), size))
    return BlockWriter(synthesizer_of(config), blocks, parts, task_names(config), place)


def write_blocks(writer: BlockWriter) -> tuple[int, int]:
    """Write all blocks on the cluster; -> images, bytes."""
    count = len(writer.blocks)
    dataset = ray.data.range(count, override_num_blocks=count).map(writer.write, compute=TaskPoolStrategy())
    images = num_bytes = 0
    for done, block in enumerate(dataset.iter_rows(), start=1):
        images += block["rows"]
        num_bytes += block["bytes"]
        say(f"synthesize: block {done}/{count}, {images} images")
    return images, num_bytes


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
    names = sorted(task_names(config))  # the order a store has them in
    plans = [
        plan
        for step in steps
        for plan in episodes_of_step(names, step, num_references, config.meta, config.seed, rank, world_size)
    ]
    if not plans:
        return
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    maker = EpisodeMaker(synthesizer_of(config), by_part, tuple(plans))
    dataset = ray.data.range(len(plans), override_num_blocks=len(plans)).map(maker.make, compute=TaskPoolStrategy())
    yield from dataset.iter_rows()


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
        return [self.synthesizer.rows_of(self.by_part[part][index], part)(task, level) for index, level in wanted]


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
        references = [self.synthesizer.rows_of(r, self.parts[r.reference_id]) for r in self.blocks[row["id"]]]
        num_rows = num_bytes = 0
        for task in self.tasks:
            rows = [row_of(task, level) for row_of in references for level in LEVELS]
            file = self.place / f"task={task}" / f"part-{row['id']:05d}.parquet"
            num_bytes += write_task_file(file, rows, self.synthesizer.size_px)
            num_rows += len(rows)
        marker.write_json({"rows": num_rows, "bytes": num_bytes})
        return {"rows": num_rows, "bytes": num_bytes}


def fingerprint(config: Config, usable: Sequence[Reference]) -> str:
    """Differs when anything that decides about a row, or about the block it is in, differs."""
    ids = [(reference.reference_id, local_size_bytes(reference.uri)) for reference in usable]
    wanted = (config.synthesize.query_fraction, config.synthesize.references_per_block)
    rated = [cell for reference in usable for cell in sorted(reference.rated.items())]
    scores = [(cell, picture.quality, local_size_bytes(picture.uri)) for cell, picture in rated]
    return config_hash(synthesizer_of(config), task_names(config), ids, wanted, _label_rule_of(config), *scores)


def label_rule(source: str, labels: Labels, tasks: Sequence[str]) -> str:
    """How a store's labels are made: `synthesize.labels`, and a digest of the constants behind it."""
    if source in RATED_TYPES:
        return f"scores of {source}"
    constants: list[Any] = [] if labels == "mean" else [STRENGTH, sorted(curves().items())]
    if labels == "overall":
        constants.append(OWN_QUALITY_RULE)
    if any(len(types_of(task)) > 1 for task in tasks):
        constants.append(COMPOSITION_RULE)
    return f"{labels} {config_hash(*constants)}"


def _label_rule_of(config: Config) -> str:
    return label_rule(config.synthesize.source, config.synthesize.labels, task_names(config))


@dataclass(frozen=True)
class Plan:
    """What a task store is to hold."""

    fingerprint: str
    source: str
    """synthesize.source of its making."""
    labels: str
    """`label_rule` of its making."""
    references: dict[str, Part]

    @classmethod
    def of(cls, store: Location) -> Plan:
        """InputError when the store has no plan."""
        try:
            return cls(**(store / PLAN).read_json())
        except (FileNotFoundError, TypeError) as error:
            raise InputError(
                f"task store {store.uri} lacks its {PLAN}, or that is another file; "
                "run `grmp synthesize` into another output"
            ) from error


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("synthesize")

"""Distortion tasks with Ray Data: to a task store, or streamed into pre-training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grmp_core.tasks.distortion_tasks import split_references
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.task_making.picture_quality import with_quality
from pipelines.task_making.picture_sources import photo_listing, scan_references, task_names
from pipelines.task_making.task_writer import block_writer, plan_store, write_blocks

if TYPE_CHECKING:  # a worker that makes pictures needs neither torch nor matplotlib
    from pipelines.configuration.schema import Config


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


def synthesize(config: Config) -> Synthesis:
    """Write the task store `<output>/tasks`. Blocks of references that are already there are not made again."""
    started = time.time()
    store, names = output_folder(config, "tasks"), task_names(config)
    with ray_session():
        listing = photo_listing(config)
        usable, rejected = scan_references(config, listing)
        usable = with_quality(config, usable)
        parts = split_references([r.reference_id for r in usable], config.synthesize.query_fraction, config.seed)
        plan = plan_store(config, usable, parts, store)
        rows, bytes_written = write_blocks(block_writer(config, usable, parts, store))
    write_manifest(
        store,
        "synthesize",
        config,
        started,
        inputs={"fingerprint": plan.fingerprint},
        counts={"tasks": len(names), "references": len(usable), "images": rows, "bytes": bytes_written},
        rejected=rejected,
        not_taken=[left.as_row() for left in listing.not_taken],
    )
    return Synthesis(store.uri, len(names), len(usable), rows, bytes_written, tuple(rejected), time.time() - started)

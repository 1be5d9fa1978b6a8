"""The Parquet task store, written block by block with Ray Data, and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.data import TaskPoolStrategy

from grmp_core.errors import InputError
from grmp_core.identity import Identity, check_version, digest_of, listed
from grmp_core.imaging.decoding import colour_identity
from grmp_core.labels.visibility import STRENGTH, curves
from grmp_core.storage import Location, local_size_bytes
from grmp_core.tasks.distortion_tasks import COMPOSITION_RULE, LEVELS, Part, types_of
from grmp_core.tasks.task_store import write_task_file
from pipelines.runtime.kept_memory import keep_freed_memory
from pipelines.runtime.metrics import count
from pipelines.runtime.progress import Progress
from pipelines.runtime.provenance import config_hash
from pipelines.task_making.picture_quality import judge_digest
from pipelines.task_making.picture_sources import RATED_TYPES, Reference, Synthesizer, synthesizer_of, task_names

if TYPE_CHECKING:  # it brings torch, which a worker that makes pictures does without
    from pipelines.configuration.schema import Config


PLAN = "plan.json"


def block_writer(config: Config, usable: Sequence[Reference], parts: dict[str, Part], store: Location) -> BlockWriter:
    """The writer of the store at `store`, block by block."""
    size = config.synthesize.references_per_block
    blocks = tuple(usable[i : i + size] for i in range(0, len(usable), size))
    return BlockWriter(synthesizer_of(config), blocks, parts, task_names(config), store)


def write_blocks(writer: BlockWriter) -> tuple[int, int]:
    """Write all blocks on the cluster; -> images, bytes."""
    count = len(writer.blocks)
    dataset = ray.data.range(count, override_num_blocks=count).map(writer.write, compute=TaskPoolStrategy())
    images = num_bytes = 0
    with Progress("synthesize", count, "block") as progress:
        for done, block in enumerate(dataset.iter_rows(), start=1):
            images += block["rows"]
            num_bytes += block["bytes"]
            progress.to(done, f"{images} images")
    return images, num_bytes


@dataclass(frozen=True)
class BlockWriter:
    """Writes all tasks of a few references: one file a task, named by the block, so that a repeat replaces."""

    synthesizer: Synthesizer
    blocks: tuple[Sequence[Reference], ...]
    parts: dict[str, Part]
    tasks: tuple[str, ...]
    store: Location

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        """Block number `id` -> how much was written; a block that is there already is left alone."""
        marker = self.store / "blocks" / f"{row['id']:05d}.json"
        if marker.exists():
            return marker.read_json()
        keep_freed_memory()
        references = [self.synthesizer.rows_of(r, self.parts[r.reference_id]) for r in self.blocks[row["id"]]]
        num_rows = num_bytes = 0
        for task in self.tasks:
            rows = [row_of(task, level) for row_of in references for level in LEVELS]
            file = self.store / f"task={task}" / f"part-{row['id']:05d}.parquet"
            num_bytes += write_task_file(file, rows, self.synthesizer.size_px)
            num_rows += len(rows)
        marker.write_json({"rows": num_rows, "bytes": num_bytes})
        count("grmp_images_synthesized", num_rows)
        return {"rows": num_rows, "bytes": num_bytes}


def store_identity(config: Config, usable: Sequence[Reference]) -> Identity:
    """Every setting and input that decides about a row, or about the block it is in."""
    ids = [(reference.reference_id, local_size_bytes(reference.uri)) for reference in usable]
    rated = [cell for reference in usable for cell in sorted(reference.rated.items())]
    scores = [(cell, picture.quality, local_size_bytes(picture.uri)) for cell, picture in rated]
    return Identity.of(
        {
            "synthesize": synthesizer_of(config),
            "synthesize.tasks": task_names(config),
            "synthesize.query_fraction": config.synthesize.query_fraction,
            "synthesize.references_per_block": config.synthesize.references_per_block,
            "labels.rule": label_rule_of(config),
            "references.digest": digest_of(ids)[:16],
            "scores.digest": digest_of(scores)[:16],
            **(colour_identity(config.images) if config.synthesize.source != "procedural" else {}),
        },
        without={"synthesize.limits.colour_profiles"},  # colour_identity has it
    )


def label_rule(source: str, config: Config, tasks: Sequence[str]) -> str:
    """How a store's labels are made: `synthesize.labels`, and a digest of the constants behind it."""
    labels = config.synthesize.labels
    if source in RATED_TYPES:
        return f"scores of {source}"
    constants: list[Any] = [] if labels == "mean" else [STRENGTH, sorted(curves().items())]
    if labels == "overall":
        constants.append(judge_digest(config))
    if any(len(types_of(task)) > 1 for task in tasks):
        constants.append(COMPOSITION_RULE)
    return f"{labels} {config_hash(*constants)}"


def label_rule_of(config: Config) -> str:
    return label_rule(config.synthesize.source, config, task_names(config))


@dataclass(frozen=True)
class Plan:
    """Content of a task store, as decided before the first block is written."""

    fingerprint: str
    """Digest of the store's identity."""
    source: str
    """synthesize.source of its making."""
    labels: str
    """`label_rule` of its making."""
    references: dict[str, Part]
    identity: dict[str, Any] | None = None
    """Its record; null in a store of an earlier version."""

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


def plan_store(config: Config, usable: Sequence[Reference], parts: dict[str, Part], store: Location) -> Plan:
    """The plan of the store at `store`, written where there is none. InputError when another store has begun there."""
    identity = store_identity(config, usable)
    if not (store / PLAN).exists():
        plan = Plan(identity.digest, config.synthesize.source, label_rule_of(config), parts, identity.record())
        (store / PLAN).write_json(asdict(plan))
        return plan
    plan = Plan.of(store)
    if plan.identity is None:
        raise InputError(
            f"{store.uri} holds tasks made by an earlier version, which can be learned from but not gone on with; "
            "choose another output, or delete that folder"
        )
    check_version(plan.identity, store.uri)
    if changes := identity.changes_from(plan.identity):
        raise InputError(
            f"{store.uri} holds tasks made with other settings or photos ({listed(changes)}); choose another output, "
            "or delete that folder"
        )
    return plan

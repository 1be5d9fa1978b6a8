"""The teacher's scores of all images, by Ray Data, kept by the images' content."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray import ObjectRef

from grmp_core.distilling.teacher import TeacherError, scores_of
from grmp_core.errors import ImageError, InputError
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.distilling.image_views import ViewPlan, ViewReader
from pipelines.distilling.teachers import TeacherSource
from pipelines.runtime.computing import prepare_to_compute
from pipelines.runtime.console import say
from pipelines.runtime.progress import Progress
from pipelines.runtime.provenance import config_hash
from pipelines.scoring.cluster_rows import rows_on_cluster
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.score_rows import parquet_of

PART_IMAGES = 512
"""Images that a run which dies may have to have scored again, beside those in flight."""
_ROWS_OF_A_CALL = 8
_KEPT = pa.schema({"image_id": pa.string(), "scores": pa.list_(pa.float64())})
_ROW = pa.schema([*_KEPT, *(pa.field(name, pa.string()) for name in ("key", "error", "failure"))])


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """Images with the teacher's scores of their views, each content once, sorted by it."""

    images: tuple[ImageInput, ...]
    image_ids: tuple[str, ...]
    scores_NV: np.ndarray
    """float64, on the teacher's scale."""
    rejected: tuple[dict[str, str], ...]
    """Path and reason of the images that are left out."""
    scored_before: int
    """Images whose scores an earlier run has left."""


def scored_images(
    config: Config, source: TeacherSource, images: Sequence[ImageInput], plan: ViewPlan, cache: Location
) -> ScoredImages:
    """Have the teacher score the views of every image that it has not scored before.

    What it has scored is kept in `cache`, also when it fails. An image that cannot be read costs its own row.

    InputError where the teacher fails, and where no image can be used.
    """
    folder = cache / config_hash(source.identity, plan)
    known = _read(folder)
    rejected = [{"path": image.name, "reason": image.problem} for image in images if image.problem]
    pending = {image.key: image for image in images if not image.problem}
    image_of: dict[str, ImageInput] = {}
    fresh: dict[str, list[float]] = {}
    before = set[str]()
    failures: Counter[str] = Counter()
    for row in _rows(config, source, list(pending.values()), plan, known):
        image = pending[row["key"]]
        if row["failure"] is not None:
            failures[f"{row['failure']} (first at {image.name})"] += 1
        elif row["error"] is not None:
            rejected.append({"path": image.name, "reason": row["error"]})
        else:
            image_of.setdefault(row["image_id"], image)
            if row["scores"] is None:
                before.add(row["image_id"])
                continue
            fresh[row["image_id"]] = row["scores"]
            if len(fresh) % PART_IMAGES == 0:
                _add(folder, dict(list(fresh.items())[-PART_IMAGES:]))
    _add(folder, dict(list(fresh.items())[len(fresh) // PART_IMAGES * PART_IMAGES :]))
    if failures:
        raise InputError(f"{next(iter(failures))}; the scores of {len(known) + len(fresh)} images are kept")
    for reject in rejected:
        say(f"distil: skipped {reject['path']}: {reject['reason']}")
    if not image_of:
        first = f" (first: {rejected[0]['path']}: {rejected[0]['reason']})" if rejected else ""
        raise InputError(f"no image without a label can be used{first}; name some with distil.images")
    if before:
        say(f"distil: {len(before)} of {len(image_of)} images were scored before")
    scores, order = {**known, **fresh}, sorted(image_of)
    return ScoredImages(
        images=tuple(image_of[name] for name in order),
        image_ids=tuple(order),
        scores_NV=np.array([scores[name] for name in order]),
        rejected=tuple(sorted(rejected, key=lambda row: row["path"])),
        scored_before=len(before),
    )


def _rows(
    config: Config,
    source: TeacherSource,
    images: Sequence[ImageInput],
    plan: ViewPlan,
    known: Mapping[str, list[float]],
) -> Iterator[dict[str, Any]]:
    """Rows of `_ROW`, in any order, from this process or Ray Data; an image that is known has no scores."""
    given = (source, plan, frozenset(known), config.score.gpus_per_worker)
    rows = [dataclasses.asdict(image) for image in images]
    if config.distil.workers:
        yield from rows_on_cluster(
            config,
            source.bundle,
            _Worker,
            given,
            rows,
            command="distil",
            unit="image",
            rows_of_a_block=PART_IMAGES,
            rows_of_a_call=_ROWS_OF_A_CALL,
        )
        return
    worker = _Worker(*given, [])
    with Progress("distil", len(rows), "image") as progress:
        for first in range(0, len(rows), _ROWS_OF_A_CALL):
            yield from worker(pa.Table.from_pylist(rows[first : first + _ROWS_OF_A_CALL])).to_pylist()
            progress.to(min(first + _ROWS_OF_A_CALL, len(rows)))


class _Worker:
    """A Ray Data worker that holds the teacher."""

    def __init__(
        self,
        source: TeacherSource,
        plan: ViewPlan,
        known: frozenset[str],
        gpus: float,
        weights: list[ObjectRef[bytes]],
    ) -> None:
        prepare_to_compute()
        self.reader, self.known = ViewReader(plan), known
        self.teacher = source.open(plan, gpus, weights)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Inputs -> `_ROW`; the teacher sees the views of all of them in one call."""
        found: list[dict[str, Any]] = []
        views: list[np.ndarray] = []
        waiting: list[dict[str, Any]] = []
        for image in (ImageInput(**row) for row in rows.to_pylist()):
            row: dict[str, Any] = dict.fromkeys(_ROW.names) | {"key": image.key}
            found.append(row)
            try:
                content = self.reader.content(image)
                row["image_id"] = content[0]
                if row["image_id"] not in self.known:
                    views += list(self.reader.views(content))
                    waiting.append(row)
            except ImageError as error:
                row["error"] = error.reason
        try:
            scores = scores_of(self.teacher, views) if views else []
        except TeacherError as error:
            for row in waiting:
                row["failure"] = str(error)
        else:
            per_image = len(scores) // max(1, len(waiting))
            for i, row in enumerate(waiting):
                row["scores"] = scores[i * per_image : (i + 1) * per_image]
        return pa.Table.from_pylist(found, schema=_ROW)


def _read(folder: Location) -> dict[str, list[float]]:
    tables = [pq.read_table(io.BytesIO(file.read_bytes())) for file in folder.list(".parquet")]
    return {row["image_id"]: row["scores"] for table in tables for row in table.to_pylist()}


def _add(folder: Location, scores: Mapping[str, list[float]]) -> None:
    if scores:
        rows = [{"image_id": name, "scores": own} for name, own in scores.items()]
        name = f"part-{len(folder.list('.parquet')):05d}.parquet"
        (folder / name).write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=_KEPT)))

"""Scoring many images with Ray Data, in parts that survive an interruption."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import ray
import torch
from ray import ObjectRef
from ray.data import ActorPoolStrategy

from grmp_core.imaging.decoding import ImageLimits, picture_of
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Score, Scorer
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.configuration.workloads import ScoreConfig
from pipelines.runtime.capacity import how_many_fit, require
from pipelines.runtime.console import say
from pipelines.runtime.progress import Progress
from pipelines.runtime.provenance import config_hash
from pipelines.runtime.ray_session import ray_session

COLUMNS = ("image_path", "quality", "mos_scale_score", "error")


PART_ROWS = 512
"""Rows that a scoring which dies may have to make again, beside those in flight."""


_NOTES = "notes"
"""Column of a worker's rows, beside COLUMNS: what `_say_notes` counts, a note a line."""


FEW = 16
"""Up to so many single files are scored in this process: starting Ray would take longer."""


def score_paths(
    config: Config, bundle: Bundle, where: str, paths: Sequence[str], parts: _Parts | None = None
) -> pd.DataFrame:
    """One row a path, in the order of `paths`: image_path, quality, mos_scale_score, error.

    A name that is not UTF-8 fits into no table: its row has the name with escapes, and an error.

    parts: where rows are kept while the rest is scored, for a run that dies; what is there is not scored again.
    """
    names = {path: os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths}
    if any(name != path for path, name in names.items()):
        told = score_paths(config, bundle, where, [path for path in paths if names[path] == path], parts)
        rows = iter(told.to_dict("records"))
        error = "its name is not UTF-8; rename it"
        unnamed = {"quality": math.nan, "mos_scale_score": math.nan, "error": error}
        return as_scores(
            [next(rows) if names[path] == path else {"image_path": names[path], **unnamed} for path in paths]
        )
    wanted = config.score
    if len(paths) <= FEW:
        scorer = Scorer(bundle, where, limits=config.images, batch_size=wanted.batch_size, score_grid=wanted.grid)
        few = scorer.score(picture_of(path) for path in paths)
        _say_notes(note for score in few for note in score.notes)
        return as_scores(_rows(paths, few))
    done = [row for row in parts.read() if not row["error"]] if parts else []  # what failed may work by now
    known = {row["image_path"] for row in done}
    todo = [path for path in dict.fromkeys(paths) if path not in known]
    if done:
        say(f"score: {len(known)} of {len(set(paths))} images were scored before")
    waiting: list[dict[str, Any]] = []
    notes: list[str] = []
    with Progress("score", len(todo), "image") as progress:
        for count, row in enumerate(_score_on_cluster(config, bundle, where, todo), start=1):
            notes += filter(None, row.pop(_NOTES, "").split("\n"))
            waiting.append(row)
            if parts and len(waiting) == PART_ROWS:
                parts.add(waiting)
                done += waiting
                waiting = []
            progress.to(count)
    _say_notes(notes)
    by_path = {row["image_path"]: row for row in done + waiting}
    return as_scores([by_path[path] for path in paths])


def _score_on_cluster(config: Config, bundle: Bundle, where: str, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS and notes, in any order."""
    if not paths:
        return
    wanted, weights = config.score, bundle.backbone.checkpoint
    with ray_session():
        shipped = [ray.put(Path(weights).read_bytes())] if weights else []
        piece = {"GPU": wanted.gpus_per_worker} if wanted.gpus_per_worker else {"CPU": 1.0}
        fix = "lower score.workers or score.gpus_per_worker (0 scores on CPUs)"
        require(piece, wanted.workers or 1, config.wait_for_nodes_s, "scoring wants", fix)
        pool = wanted.workers or how_many_fit(piece)
        blocks = max(min(len(paths), 8 * pool), len(paths) // PART_ROWS)  # rows of a block come when all are done
        scored = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=blocks)
        yield from scored.map_batches(
            _Worker,
            fn_constructor_args=(bundle, where, config.images, wanted, shipped),
            batch_size=wanted.batch_size,
            compute=ActorPoolStrategy(size=pool),
            num_gpus=wanted.gpus_per_worker or None,
        ).iter_rows()


@dataclass(frozen=True)
class _Parts:
    """Rows of a scoring that is not over, in files beside its output."""

    place: Location

    @classmethod
    def of(cls, output: Location, bundle: Bundle, config: Config) -> _Parts:
        """Another model, grid or size limit has parts of its own."""
        model = (bundle.digest, bundle.views, bundle.precision, bundle.score_range)
        identity = config_hash(*model, config.images, config.score.grid)
        return cls(output.at(f"{output.path}.parts-{identity}"))

    def read(self) -> list[dict[str, Any]]:
        return [row for file in self.place.list(".parquet") for row in _from_parquet(file.read_bytes())]

    def add(self, rows: list[dict[str, Any]]) -> None:
        name = f"part-{len(self.place.list('.parquet')):05d}.parquet"
        (self.place / name).write_bytes(pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(index=False))

    def delete(self) -> None:
        self.place.delete_folder()


class _Worker:
    """A Ray Data worker that holds the model."""

    def __init__(
        self,
        bundle: Bundle,
        where: str,
        limits: ImageLimits,
        wanted: ScoreConfig,
        weights: list[ObjectRef[bytes]],
    ) -> None:
        """weights: content of the backbone's own file, where it has one, for nodes that do not see it."""
        torch.set_num_threads(1)
        self.scorer = Scorer(
            _with_weights(bundle, weights),
            where,
            limits=limits,
            device="cuda" if wanted.gpus_per_worker else "cpu",
            batch_size=wanted.batch_size,
            score_grid=wanted.grid,
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        paths = [str(path) for path in batch["path"]]
        scores = self.scorer.score(picture_of(path) for path in paths)
        rows = _rows(paths, scores)
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in COLUMNS}
        notes = ["\n".join(score.notes) for score in scores]
        return columns | {"error": [error or "" for error in columns["error"]], _NOTES: notes}


def _with_weights(bundle: Bundle, weights: list[ObjectRef[bytes]]) -> Bundle:
    """The bundle, with its backbone's weights in a file of this node where it does not see the driver's."""
    checkpoint = bundle.backbone.checkpoint
    if checkpoint is None or os.path.isfile(checkpoint):  # False also where its folder may not be entered
        return bundle
    folder = Path(tempfile.gettempdir(), f"grmp-weights-{bundle.backbone_sha256[:16]}")
    file = locate(folder / Path(checkpoint).name)
    if not file.exists():
        file.write_bytes(ray.get(weights[0]))
    return dataclasses.replace(bundle, backbone=dataclasses.replace(bundle.backbone, checkpoint=file.path))


def _say_notes(notes: Iterable[str]) -> None:
    """Doubts about pixels, each kind with the number of its images."""
    for note, count in Counter(notes).most_common():
        say(f"score: {count} image{'s' if count > 1 else ''}: {note}")


def _from_parquet(data: bytes) -> list[dict[str, Any]]:
    return pq.read_table(io.BytesIO(data)).to_pylist()


def _rows(paths: Sequence[str], scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [
        {"image_path": path, "quality": s.quality, "mos_scale_score": s.mos_scale_score, "error": s.error}
        for path, s in zip(paths, scores, strict=True)
    ]


def as_scores(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The scores table. `error` holds text or None: left to itself, pandas makes NaN of None beside text."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    errors = [None if pd.isna(error) or not error else str(error) for error in frame["error"]]
    return frame.assign(error=pd.Series(errors, index=frame.index, dtype=object))

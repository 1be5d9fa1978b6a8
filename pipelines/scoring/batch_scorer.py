"""Scoring many images with Ray Data, in parts that survive an interruption."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray import ObjectRef

from grmp_core.identity import digest_of
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Score, Scorer, ScoreTrust, untrusted_because
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.runtime.console import say
from pipelines.runtime.provenance import config_hash
from pipelines.scoring.cluster_rows import rows_on_cluster
from pipelines.scoring.image_tables import ImageInput, ImageReader

_NUMBERS = ("quality", "mos_scale_score", "quality_low", "quality_high", "score_low", "score_high")
SCORES = pa.schema(
    {
        "image_path": pa.string(),
        **dict.fromkeys(_NUMBERS, pa.float64()),
        "unlike": pa.bool_(),
        "error": pa.string(),
    }
)
"""Columns of a scores file: the error is null where there is a score, the scores are null where there is an error.
Intervals and `unlike` are null where the model keeps no held-out predictions."""
SPREAD = pa.field("spread", pa.float64())
"""A further column of it, where the model is an ensemble."""
SCORED = SCORES.append(pa.field("key", pa.string())).append(pa.field("notes", pa.list_(pa.string()))).append(SPREAD)
"""A row of it while others are scored, with `ImageInput.key` and `Score.notes`."""
ROWS_OF_A_CALL = 16
"""Images of one call of a worker, which reads and decodes them one by one."""
PART_ROWS = 512
"""Rows that a scoring which dies may have to make again, beside those in flight."""
FEW = 16
"""Up to so many single files are scored in this process: starting Ray would take longer."""


def score_paths(config: Config, bundle: Bundle, where: str, paths: Sequence[str]) -> pd.DataFrame:
    """Scores of image files by path or URI: see `score_inputs`."""
    return score_inputs(config, bundle, where, [ImageInput.file(path) for path in paths])


def score_inputs(
    config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput], parts: Parts | None = None
) -> pd.DataFrame:
    """One row an image, in their order, with the columns of `SCORES` (error: None where there is a score).

    parts: where rows are kept while the rest is scored, for a run that dies; what is there is not scored again.
    """
    pending = list({image.key: image for image in images if not image.problem}.values())
    rows = {image.key: _row(image, Score(math.nan, math.nan, error=image.problem)) for image in images if image.problem}
    if len(pending) <= FEW:
        fresh = {row["key"]: row for row in _score_here(config, bundle, where, pending)}
    else:
        kept = {row["key"]: row for row in parts.read()} if parts else {}
        unscored = [image for image in pending if image.key not in kept]
        if kept:
            say(f"score: {len(pending) - len(unscored)} of {len(pending)} images were scored before")
        rows |= kept
        fresh = _score_in_parts(_score_on_cluster(config, bundle, where, unscored), parts)
    notes = Counter(note for row in fresh.values() for note in row["notes"])
    for note, count in notes.most_common():
        say(f"score: {count} image{'s' if count > 1 else ''}: {note}")
    rows |= fresh
    reason = untrusted_because(bundle, config.score.grid)
    if fresh and reason:
        say(f"score: no intervals and no refusals, since {reason}")
    return scores_frame([rows[image.key] for image in images])


def scores_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The columns of a scores table. A missing error or `unlike` is None, not the NaN that pandas makes of it."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in SCORES.names}
    kinds: dict[str, type] = {**dict.fromkeys(_NUMBERS, float), "unlike": object, "error": object}
    spreads = [row.get(SPREAD.name) for row in rows]
    if any(spread is not None for spread in spreads):
        columns[SPREAD.name], kinds[SPREAD.name] = spreads, float
    return pd.DataFrame(columns | {name: pd.Series(columns[name], dtype=kind) for name, kind in kinds.items()})


def _score_in_parts(scored: Iterable[dict[str, Any]], parts: Parts | None) -> dict[str, dict[str, Any]]:
    """Rows by key; every PART_ROWS of them are kept in `parts` when they are there."""
    rows: dict[str, dict[str, Any]] = {}
    for done, row in enumerate(scored, start=1):
        rows[row["key"]] = row
        if parts and done % PART_ROWS == 0:
            parts.add(list(rows.values())[-PART_ROWS:])
    return rows


def _score_here(config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput]) -> Iterator[dict[str, Any]]:
    """Rows of SCORED, in order, by this process: images are decoded one by one while others are computed.

    A forward pass has one thread, as a worker of the cluster has: with more, kernels may add up in another order.
    """
    if not images:
        return
    scorer = Scorer(
        bundle,
        where,
        limits=config.images,
        batch_size=config.score.batch_size,
        score_grid=config.score.grid,
        trust=trust_of(config.score),
    )
    reader, threads = ImageReader(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            views = (scorer.views_of(reader.read(image)) for image in images)
            for image, score in zip(images, pool.map(scorer.score_views, views), strict=True):
                yield _row(image, score)
    finally:
        torch.set_num_threads(threads)


def _score_on_cluster(
    config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput]
) -> Iterator[dict[str, Any]]:
    """Rows of SCORED, in any order."""
    return rows_on_cluster(
        config,
        bundle,
        _Worker,
        (bundle, where, config.images, config.score),
        [dataclasses.asdict(image) for image in images],
        command="score",
        unit="image",
        rows_of_a_block=PART_ROWS,
        rows_of_a_call=ROWS_OF_A_CALL,
    )


@dataclass(frozen=True)
class Parts:
    """Rows of a scoring that is not over, in files beside its output."""

    folder: Location

    @classmethod
    def of(cls, output: Location, bundle: Bundle, config: Config) -> Parts:
        """Another model, grid or size limit has parts of its own."""
        model = (bundle.digest, bundle.views, bundle.precision, bundle.score_range, bundle.colour_profiles)
        evidence = bundle.evidence and digest_of(bundle.evidence.to_bytes())
        asked = (config.score.grid, config.score.coverage, config.score.unlike_share)
        identity = config_hash(*model, evidence, config.images, *asked, SCORED.names)
        return cls(output.at(f"{output.path}.parts-{identity}"))

    def read(self) -> list[dict[str, Any]]:
        """Rows of SCORED with a score: what failed may work by now."""
        tables = [pq.read_table(io.BytesIO(file.read_bytes())) for file in self.folder.list(".parquet")]
        return [row for table in tables for row in table.to_pylist() if row["error"] is None]

    def add(self, rows: list[dict[str, Any]]) -> None:
        name = f"part-{len(self.folder.list('.parquet')):05d}.parquet"
        (self.folder / name).write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=SCORED)))

    def delete(self) -> None:
        self.folder.delete_folder()


def parquet_of(table: pa.Table) -> bytes:
    data = io.BytesIO()
    pq.write_table(table, data)
    return data.getvalue()


class _Worker:
    """A Ray Data worker that holds the model."""

    def __init__(
        self,
        bundle: Bundle,
        where: str,
        limits: ImageLimits,
        settings: ScoreConfig,
        weights: list[ObjectRef[bytes]],
    ) -> None:
        """weights: content of the backbone's own file, where it has one, for nodes that do not see it."""
        torch.set_num_threads(1)
        self.scorer = Scorer(
            with_weights_here(bundle, weights),
            where,
            limits=limits,
            device="cuda" if settings.gpus_per_worker else "cpu",
            batch_size=settings.batch_size,
            score_grid=settings.grid,
            trust=trust_of(settings),
        )
        self.reader = ImageReader()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Inputs -> SCORED; one image is read and decoded at a time."""
        images = [ImageInput(**row) for row in rows.to_pylist()]
        scores = self.scorer.score(self.reader.read(image) for image in images)
        return pa.Table.from_pylist([_row(*pair) for pair in zip(images, scores, strict=True)], schema=SCORED)


def trust_of(settings: ScoreConfig) -> ScoreTrust:
    """The reliability that `score.coverage` and `score.unlike_share` ask for."""
    return ScoreTrust(coverage=settings.coverage, unlike_share=settings.unlike_share)


def _row(image: ImageInput, score: Score) -> dict[str, Any]:
    """A row of SCORED."""
    return {"key": image.key, "image_path": image.name, **dataclasses.asdict(score), "notes": list(score.notes)}


def with_weights_here(bundle: Bundle, weights: list[ObjectRef[bytes]]) -> Bundle:
    """The bundle, with its backbone's weights in a file of this node where it does not see the driver's."""
    checkpoint = bundle.backbone.checkpoint
    if checkpoint is None or os.path.isfile(checkpoint):  # False also where its folder may not be entered
        return bundle
    folder = Path(tempfile.gettempdir(), f"grmp-weights-{bundle.backbone_sha256[:16]}")
    file = locate(folder / Path(checkpoint).name)
    if not file.exists():
        file.write_bytes(ray.get(weights[0]))
    return dataclasses.replace(bundle, backbone=dataclasses.replace(bundle.backbone, checkpoint=file.path))

"""Scores of many images, by this process or by Ray Data, in parts that survive an interruption."""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pandas as pd
import torch

from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Score, untrusted_because
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.runtime.cluster_address import cluster_address
from pipelines.runtime.computing import lacks_gpu
from pipelines.runtime.console import say
from pipelines.runtime.kept_memory import keep_freed_memory
from pipelines.runtime.progress import Progress
from pipelines.scoring.configured_scorer import configured_scorer
from pipelines.scoring.image_tables import ImageInput, ImageReader
from pipelines.scoring.score_rows import NUMBERS, PART_ROWS, SCORES, SPREAD, Parts, row_of

FEW = 16
"""Up to so many images show no progress, have all their scores on screen, and need no file."""
_FEW_FOR_RAY = 256
"""Two cores score so many in the time that Ray needs to start."""
_CPUS_OF_A_PROCESS = 8
"""One thread decodes for all others: 3 ms an image, of which a forward pass takes 70 to 200 ms of a core."""


def score_paths(config: Config, bundle: Bundle, where: str, paths: Sequence[str]) -> pd.DataFrame:
    """Scores of image files by path or URI: see `score_inputs`."""
    return score_inputs(config, bundle, where, [ImageInput.file(path) for path in paths])


def score_inputs(
    config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput], parts: Parts | None = None
) -> pd.DataFrame:
    """One row an image, in their order, with the columns of `SCORES` (error: None where there is a score).

    parts: where rows are kept while the rest is scored, for a run that dies; what is there is not scored again, unless
    its file has changed.
    """
    pending = {image.key: image for image in images if not image.problem}
    rows = {
        image.key: row_of(image, Score(math.nan, math.nan, error=image.problem)) for image in images if image.problem
    }
    kept = parts.rows_of(pending) if parts else {}
    unscored = [image for key, image in pending.items() if key not in kept]
    if kept:
        say(f"score: {len(pending) - len(unscored)} of {len(pending)} images were scored before")
    fresh = _score_in_parts(_scored(config, bundle, where, unscored), parts)
    notes = Counter(note for row in fresh.values() for note in row["notes"])
    for note, count in notes.most_common():
        say(f"score: {count} image{'s' if count > 1 else ''}: {note}")
    rows |= kept | fresh
    reason = untrusted_because(bundle, config.score.grid)
    if fresh and reason:
        say(f"score: no intervals and no refusals, since {reason}")
    return scores_frame([rows[image.key] for image in images])


def scores_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The columns of a scores table. A missing error or `unlike` is None, not the NaN that pandas makes of it."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in SCORES.names}
    kinds: dict[str, type] = {**dict.fromkeys(NUMBERS, float), "unlike": object, "error": object}
    spreads = [row.get(SPREAD.name) for row in rows]
    if any(spread is not None for spread in spreads):
        columns[SPREAD.name], kinds[SPREAD.name] = spreads, float
    return pd.DataFrame(columns | {name: pd.Series(columns[name], dtype=kind) for name, kind in kinds.items()})


def _scored(config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput]) -> Iterator[dict[str, Any]]:
    """Rows of SCORED, in any order; the same ones to the last bit, wherever they are made."""
    if needs_no_ray(config.score, len(images)):
        return _score_here(config, bundle, where, images)
    from pipelines.scoring.cluster_scorer import score_on_cluster  # brings Ray

    return score_on_cluster(config, bundle, where, images)


def needs_no_ray(settings: ScoreConfig, count: int) -> bool:
    """Whether so many images are scored by this process alone."""
    if lacks_gpu(settings.gpus_per_worker):
        return False
    if settings.local_images is not None:
        return count <= settings.local_images
    limited = "OMP_NUM_THREADS" in os.environ  # to fewer threads than CPUs; Ray has a worker for each
    alone = cluster_address() is None and not (settings.workers or settings.gpus_per_worker or limited)
    return count <= _FEW_FOR_RAY or (alone and (os.cpu_count() or 1) <= _CPUS_OF_A_PROCESS)


def _score_in_parts(scored: Iterable[dict[str, Any]], parts: Parts | None) -> dict[str, dict[str, Any]]:
    """Rows by key; every PART_ROWS of them are kept in `parts` when they are there."""
    rows: dict[str, dict[str, Any]] = {}
    for done, row in enumerate(scored, start=1):
        rows[row["key"]] = row
        if parts and done % PART_ROWS == 0:
            parts.add(list(rows.values())[-PART_ROWS:])
    return rows


def _score_here(config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput]) -> Iterator[dict[str, Any]]:
    """Rows of SCORED, in order, by this process: images are decoded one by one while a few others are computed.

    A forward pass has one thread, as a worker of the cluster has: with more, kernels may add up in another order.
    """
    if not images:
        return
    scorer = configured_scorer(config.score, bundle, where, config.images)
    reader, threads, count = ImageReader(), torch.get_num_threads(), len(images)
    stamped = count >= PART_ROWS  # of fewer no part is kept
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        with ThreadPoolExecutor(threads) as pool, Progress("score", count, "image", shown=count > FEW) as progress:
            waiting: deque[tuple[Future[Score], list[str]]] = deque()
            for done in range(count + 2 * threads):
                if done < count:
                    source, stamps = reader.read_stamped(images[done]) if stamped else (reader.read(images[done]), [])
                    waiting.append((pool.submit(scorer.score_views, scorer.views_of(source)), stamps))
                if 0 <= (oldest := done - 2 * threads) < count:
                    score, stamps = waiting.popleft()
                    yield row_of(images[oldest], score.result(), stamps)
                    progress.to(oldest + 1)
    finally:
        torch.set_num_threads(threads)

"""Score videos: a few in this process, many with Ray Data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from grmp_core.errors import InputError
from grmp_core.model.bundle import Bundle
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.runtime.capacity import how_many_fit, require
from pipelines.runtime.console import table
from pipelines.runtime.progress import Progress
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring.batch_scorer import parquet_of
from pipelines.scoring.model_lookup import open_model
from pipelines.video.video_scorer import ROWS, VideoScorer

FEW = 2
"""Up to so many videos are scored in this process."""
_SHOWN = 30
_COLUMNS = (
    "video_path", "quality", "mos_scale_score", "mean", "worst", "worst_start_s", "duration_s", "notes", "error",
)  # fmt: skip


@dataclass(frozen=True)
class VideoScoring:
    """Result of `grmp score` of videos."""

    rows: list[dict[str, Any]]
    """Of `video_scorer.ROWS`, in the order of the videos."""
    content: dict[str, Any] | None
    """Of the video, where there is one only."""
    output: str

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["error"] is not None]

    @property
    def exit_code(self) -> int:
        """1 when no video at all has a score."""
        return int(len(self.failed) == len(self.rows))

    def as_json(self) -> dict[str, Any]:
        if self.content is not None:
            return self.content | {"files": self.rows[0]["files"]}
        counts = {"scored": len(self.rows) - len(self.failed), "failed": len(self.failed)}
        return {"videos": self.rows, "output": self.output, **counts}

    def as_text(self) -> str:
        summary = table([{name: row[name] for name in _COLUMNS} for row in self.rows])
        if self.content is None:
            counts = f"scored {len(self.rows) - len(self.failed)}, {len(self.failed)} failed"
            return "\n".join([summary, counts, self.output])
        windows = self.content["windows"]
        shown = sorted(windows, key=lambda w: w["quality"])[:_SHOWN] if len(windows) > _SHOWN else windows
        title = f"the {_SHOWN} worst of {len(windows)} windows:" if len(windows) > _SHOWN else ""
        lines = [{"from_s": w["start_s"], "frames": w["frames"], "quality": w["quality"]} for w in shown]
        return "\n".join(filter(None, [summary, title, table(lines), f"{self.rows[0]['files']}.html"]))


def score_videos(config: Config, paths: Sequence[str]) -> VideoScoring:
    """Score videos with `score.model`; write `<output>/video`, and their table also to `score.output`.

    InputError, before any video is scored, for a model or an output that cannot be used, and for a single video that
    has no score.
    """
    started = time.time()
    folder = output_folder(config, "video")
    places = [folder / "videos.parquet", *([locate(config.score.output)] if config.score.output else [])]
    for place in places:
        if not place.name.endswith((".parquet", ".csv")):
            raise InputError(f"score.output {config.score.output}: end it in .parquet or .csv")
        place.check_writable()
    model, bundle = open_model(config)
    content = None
    if len(paths) <= FEW:
        scorer = VideoScorer(config, bundle, model)
        scored = [scorer.row(path) for path in paths]
        rows = [row for row, _ in scored]
        content = scored[0][1] if len(scored) == 1 else None
    else:
        found = {row["video_path"]: row for row in _on_cluster(config, bundle, model, paths)}
        rows = [found[path] for path in paths]
    if len(rows) == 1 and content is None:
        raise InputError(f"{rows[0]['video_path']}: {rows[0]['error']}")
    for place in places:
        _write(place, rows)
    result = VideoScoring(rows, content, folder.uri)
    write_manifest(
        folder,
        "score",
        config,
        started,
        inputs={"model": model},
        counts={"videos": len(rows), "failed": len(result.failed)},
        rejected=[{"path": row["video_path"], "reason": row["error"]} for row in result.failed],
    )
    return result


def _write(place: Location, rows: list[dict[str, Any]]) -> None:
    if place.name.endswith(".csv"):
        place.write_bytes(pd.DataFrame(rows).to_csv(index=False).encode())
    else:
        place.write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=ROWS)))


def _on_cluster(config: Config, bundle: Bundle, where: str, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    settings, weights = config.score, bundle.backbone.checkpoint
    with ray_session():
        shipped = [ray.put(Path(weights).read_bytes())] if weights else []
        share = {"GPU": settings.gpus_per_worker} if settings.gpus_per_worker else {"CPU": 1.0}
        fix = "lower score.workers or score.gpus_per_worker (0 scores on CPUs)"
        require(share, settings.workers or 1, config.wait_for_nodes_s, "scoring wants", fix)
        pool = settings.workers or how_many_fit(share)
        rows = ray.data.from_items([{"path": path} for path in dict.fromkeys(paths)], override_num_blocks=len(paths))
        scored = rows.map_batches(
            VideoScorer,
            fn_constructor_args=(config, bundle, where, shipped),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(pool, len(paths))),
            num_gpus=settings.gpus_per_worker or None,
        )
        with Progress("score", len(set(paths)), "video") as progress:
            for done, row in enumerate(scored.iter_rows(), start=1):
                progress.to(done)
                yield row

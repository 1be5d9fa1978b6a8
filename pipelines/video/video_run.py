"""Score videos: a few in this process, many with Ray Data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from grmp_core.errors import InputError
from grmp_core.imaging.listing import Listing, NotTaken
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.runtime.computing import lacks_gpu
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.scoring.cluster_rows import rows_on_cluster
from pipelines.scoring.file_rows import FileRows, content_of
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.model_lookup import open_model
from pipelines.scoring.score_rows import parquet_of
from pipelines.video.video_scorer import ROWS, VideoScorer

FEW = 2
"""Up to so many videos are scored in this process, unless a GPU is asked for that it lacks."""
_SHOWN = 30
_COLUMNS = (
    "video_path", "quality", "mos_scale_score", "mean", "worst", "worst_start_s", "duration_s", "notes", "error",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VideoScoring(FileRows):
    """Result of `grmp score` of videos; rows of `video_scorer.ROWS`."""

    content: dict[str, Any] | None
    """Of the video, where there is one only and its files can be read here."""
    not_taken: Sequence[NotTaken] = ()
    """Files of the named folders and patterns that are no videos."""

    def as_json(self) -> dict[str, Any]:
        not_taken = [left.as_row() for left in self.not_taken]
        if self.content is not None:
            return self.content | {"files": self.rows[0]["files"], "not_taken": not_taken}
        counts = {"scored": len(self.rows) - len(self.failed), "failed": len(self.failed)}
        return {"videos": self.rows, "output": self.output, **counts, "not_taken": not_taken}

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


def score_videos(config: Config, videos: Listing) -> VideoScoring:
    """Score videos with `score.model`; write `<output>/video`, and their table also to `score.output`.

    InputError, before any video is scored, for a model or an output that cannot be used, and for a single video that
    has no score.
    """
    started, paths = time.time(), videos.paths
    folder = output_folder(config, "video")
    places = [folder / "videos.parquet", *([locate(config.score.output)] if config.score.output else [])]
    for place in places:
        if not place.name.endswith((".parquet", ".csv")):
            raise InputError(f"score.output {config.score.output}: end it in .parquet or .csv")
        place.check_writable()
    model, bundle = open_model(config)
    content = None
    if len(paths) <= FEW and not lacks_gpu(config.score.gpus_per_worker):
        scorer = VideoScorer(config, bundle, model)
        scored = [scorer.row(path) for path in paths]
        rows = [row for row, _ in scored]
        content = scored[0][1] if len(scored) == 1 else None
    else:
        inputs = [ImageInput.file(path) for path in paths]
        made = rows_on_cluster(
            config,
            bundle,
            VideoScorer,
            (config, bundle, model),
            [{"path": path} for path in dict.fromkeys(video.path for video in inputs if not video.problem)],
            command="score",
            unit="video",
            rows_of_a_block=1,
        )
        found = {row["video_path"]: row for row in made}
        empty = dict.fromkeys(ROWS.names)
        rows = [
            empty | {"video_path": video.name, "error": video.problem} if video.problem else found[video.path]
            for video in inputs
        ]
        content = content_of(rows)
    if len(rows) == 1 and rows[0]["error"] is not None:
        raise InputError(f"{rows[0]['video_path']}: {rows[0]['error']}")
    for place in places:
        _write(place, rows)
    result = VideoScoring(rows=rows, output=folder.uri, content=content, not_taken=videos.not_taken)
    write_manifest(
        folder,
        "score",
        config,
        started,
        inputs={"model": model},
        counts={"videos": len(rows), "failed": len(result.failed), "not_taken": len(result.not_taken)},
        rejected=result.rejected("video_path"),
        not_taken=[left.as_row() for left in result.not_taken],
    )
    return result


def _write(place: Location, rows: list[dict[str, Any]]) -> None:
    if place.name.endswith(".csv"):
        place.write_bytes(pd.DataFrame(rows).to_csv(index=False).encode())
    else:
        place.write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=ROWS)))

"""Scores of videos, one by one, in this process or in a Ray Data worker; each writes its own files."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from ray import ObjectRef

from grmp_core.errors import ImageError, InputError
from grmp_core.identity import digest_of
from grmp_core.model.bundle import Bundle
from grmp_core.storage import Location, locate, readable
from grmp_core.video.frames import Video
from grmp_core.video.pooling import pooled, windows_of
from pipelines.configuration.schema import Config
from pipelines.rendering.document import to_html
from pipelines.runtime.computing import prepare_to_compute
from pipelines.scoring.cluster_rows import with_weights_here
from pipelines.scoring.configured_scorer import configured_scorer
from pipelines.video.video_page import build_page, thumbnail_of

ROWS = pa.schema(
    {
        "video_path": pa.string(),
        "quality": pa.float64(),
        "mos_scale_score": pa.float64(),
        "mean": pa.float64(),
        "worst": pa.float64(),
        "worst_start_s": pa.float64(),
        "duration_s": pa.float64(),
        "frames": pa.int64(),
        "notes": pa.string(),
        "files": pa.string(),
        "error": pa.string(),
    }
)
"""A row a video; `frames` are those that were scored."""


class VideoScorer:
    """A model that scores videos and writes JSON and HTML of each into `<output>/video`."""

    def __init__(self, config: Config, bundle: Bundle, where: str, weights: Sequence[ObjectRef[bytes]] = ()) -> None:
        """weights: content of the backbone's own file, where it has one, for nodes that do not see it."""
        prepare_to_compute()
        bundle = with_weights_here(bundle, list(weights))
        self.scorer = configured_scorer(config.score, bundle, where, config.images)
        self.settings, self.where = config.video, where
        self.folder = locate(config.output) / "video"

    def __call__(self, rows: pa.Table) -> pa.Table:
        """A column `path` -> ROWS."""
        return pa.Table.from_pylist([self.row(path)[0] for path in rows["path"].to_pylist()], schema=ROWS)

    def row(self, path: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """A row of ROWS and the content of its JSON file; null where there is none. A bad file costs its row only."""
        try:
            content = self._score(path)
        except InputError as error:
            reason = error.reason if isinstance(error, ImageError) else " ".join(str(error).split())
            return dict.fromkeys(ROWS.names) | {"video_path": readable(path), "error": reason}, None
        worst, video = content["worst"], content["video"]
        return {
            "video_path": path,
            "quality": content["quality"],
            "mos_scale_score": content["mos_scale_score"],
            "mean": content["pooled"]["mean"],
            "worst": worst["quality"],
            "worst_start_s": worst["start_s"],
            "duration_s": video["duration_s"],
            "frames": video["taken"],
            "notes": "; ".join(content["notes"]) or None,
            "files": self._place(path).uri,
            "error": None,
        }, content

    def _score(self, path: str) -> dict[str, Any]:
        video = Video(path, self.settings.fps)
        windows: list[dict[str, Any]] = []
        unlike_s: list[float] = []
        worst: list[tuple[float, float, bytes]] = []  # (-quality, start, JPEG), the best of the worst at its head
        for window, jpeg in windows_of(self._scored_frames(video, unlike_s), self.settings.window_s):
            windows.append(asdict(window))
            heapq.heappush(worst, (-window.quality, window.start_s, jpeg))
            if len(worst) > self.settings.worst:
                heapq.heappop(worst)
        by_name = pooled(np.array([window["quality"] for window in windows]))
        quality = by_name[self.settings.pooling]
        scale = self.scorer.bundle.score_range
        facts = asdict(video.facts)
        notes = facts.pop("notes")
        if unlike_s:
            notes.append(f"{len(unlike_s)} of {video.facts.taken} frames are unlike those that the model knows")
        content = {
            "video_path": path,
            "model": self.where,
            "quality": quality,
            "mos_scale_score": None if scale is None else float(scale.to_mos(quality)),
            "pooling": self.settings.pooling,
            "pooled": by_name,
            "fps": self.settings.fps,
            "window_s": self.settings.window_s,
            "worst": min(windows, key=lambda window: window["quality"]),
            "video": facts,
            "notes": notes,
            "windows": windows,
        }
        thumbnails = {start_s: jpeg for _, start_s, jpeg in worst}
        page = build_page(PurePosixPath(path).name, self.where, content, thumbnails)
        place = self._place(path)
        place.at(f"{place.path}.json").write_json(content)
        place.at(f"{place.path}.html").write_bytes(to_html(page).encode())
        return content

    def _scored_frames(self, video: Video, unlike_s: list[float]) -> Iterator[tuple[float, float, bytes]]:
        """(time in s, quality, thumbnail) of every taken frame; `unlike_s` gets the times of those that are unlike."""
        for frame in video.frames():
            score = self.scorer.score([frame.pixels_HW3])[0]
            if score.error is not None:
                raise ImageError(score.error, video.path)
            if score.unlike:
                unlike_s.append(frame.time_s)
            yield frame.time_s, score.quality, thumbnail_of(frame.pixels_HW3)

    def _place(self, path: str) -> Location:
        return self.folder / f"{PurePosixPath(path).stem}-{digest_of(path)[:6]}"

"""Score images with Ray Data: folders, globs, Parquet, s3 in; one row an image out, bad ones with their reason."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import ray
import torch
from ray.data import ActorPoolStrategy

from grmp_core.backbone import load_backbone
from grmp_core.bundle import Bundle, check_backbone, read_bundle
from grmp_core.errors import InputError
from grmp_core.images import ImageLimits
from grmp_core.scoring import Score, Scorer
from grmp_core.storage import Location, locate
from pipelines.config import Config
from pipelines.session import output_place, ray_session, say, table
from pipelines.sources import list_photos

FEW = 16
"""Up to so many single files are scored in this process: starting Ray would take longer."""


@dataclass(frozen=True)
class Scoring:
    """Result of `grmp score`."""

    scores: pd.DataFrame
    output: str | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        records = self.scores.astype(object).where(self.scores.notna(), None).to_dict("records")
        return {"scores": records, "output": self.output}

    def as_text(self) -> str:
        failed = self.scores["error"].notna()
        extremes = self.scores.sort_values("quality").iloc[[0, 1, 2, -3, -2, -1]] if len(self.scores) > FEW else None
        shown = self.scores if extremes is None else extremes
        rows = [
            {"image": r.image_path, "quality": r.quality, "score": r.mos_scale_score, "error": r.error or ""}
            for r in shown.itertuples()
        ]
        summary = f"{len(self.scores)} images, {int(failed.sum())} without a score, {self.seconds:.1f} s"
        return "\n".join(filter(None, [table(rows), summary, self.output]))


def run(config: Config) -> Scoring:
    """Score `score.images` with `score.model`; write a Parquet or CSV file for more than a few files."""
    started = time.time()
    if not config.score.images:
        raise InputError("nothing to score: name images (grmp score a.jpg folder/), or set score.images")
    place, bundle = open_model(config)
    paths = list(_paths(config.score.images))
    output = _output(config, paths)
    if output is not None and not output.name.endswith((".parquet", ".csv")):
        raise InputError(f"score.output {output.uri}: end it in .parquet or .csv")
    scores = score_paths(config, bundle, place.uri, paths)
    if output is not None:
        _write(output, scores)
    return Scoring(scores, output.uri if output else None, time.time() - started)


def open_model(config: Config) -> tuple[Location, Bundle]:
    """The model that `score.model` names, the registered champion by default. InputError when there is none."""
    from pipelines.register import resolve_model

    place = resolve_model(config.score.model or f"models:/{config.register.name}@champion", config)
    bundle = read_bundle(place)
    check_backbone(bundle, load_backbone(bundle.backbone), place.uri)
    return place, bundle


def score_paths(config: Config, bundle: Bundle, where: str, paths: Sequence[str]) -> pd.DataFrame:
    """One row a path, in the order of `paths`: image_path, quality, mos_scale_score, error."""
    if len(paths) <= FEW:
        scorer = Scorer(bundle, where, limits=config.images, batch_size=config.score.batch_size)
        return _frame(list(paths), scorer.score([_read(path) for path in paths]))
    wanted = config.score
    with ray_session():
        resources = ray.cluster_resources()
        pool = wanted.workers or int(
            resources.get("GPU", 0) / wanted.gpus_per_worker if wanted.gpus_per_worker else resources["CPU"]
        )
        rows = [{"index": i, "path": path} for i, path in enumerate(paths)]
        scored = ray.data.from_items(rows, override_num_blocks=min(len(rows), 8 * pool)).map_batches(
            _Worker,
            fn_constructor_args=(bundle, where, config.images, wanted.batch_size, wanted.gpus_per_worker),
            batch_size=wanted.batch_size,
            compute=ActorPoolStrategy(size=pool),
            num_gpus=wanted.gpus_per_worker or None,
        )
        collected = []
        for done, row in enumerate(scored.iter_rows(), start=1):
            collected.append(row)
            if done % max(FEW, len(paths) // 10) == 0 or done == len(paths):
                say(f"score: {done}/{len(paths)}")
    frame = pd.DataFrame(collected).sort_values("index", ignore_index=True).drop(columns="index")
    frame["error"] = [error or None for error in frame["error"]]
    return frame


class _Worker:
    """A Ray Data worker that holds the model."""

    def __init__(
        self, bundle: Bundle, where: str, limits: ImageLimits, batch_size: int, gpus_per_worker: float
    ) -> None:
        torch.set_num_threads(1)
        device = "cuda" if gpus_per_worker else "cpu"
        self.scorer = Scorer(bundle, where, limits=limits, device=device, batch_size=batch_size)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        paths = [str(path) for path in batch["path"]]
        frame = _frame(paths, self.scorer.score([_read(path) for path in paths]))
        return {
            "index": batch["index"],
            **{name: frame[name].to_numpy() for name in ("image_path", "quality", "mos_scale_score")},
            "error": [error or "" for error in frame["error"]],
        }


def _frame(paths: list[str], scores: list[Score]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_path": paths,
            "quality": [score.quality for score in scores],
            "mos_scale_score": [score.mos_scale_score for score in scores],
            "error": [score.error for score in scores],
        }
    )


def _read(path: str) -> bytes | str:
    """Bytes of a remote file; a local path as it is, so that the reader can look at the header first."""
    return locate(path).read_bytes() if "://" in path else path


def _paths(images: Sequence[str]) -> Iterator[str]:
    for entry in images:
        if entry.endswith(".parquet"):
            yield from _paths_in_parquet(entry)
        else:
            yield from list_photos(entry)


def _paths_in_parquet(entry: str) -> list[str]:
    place = locate(entry)
    if not place.exists():
        raise InputError(f"score.images: {entry} does not exist")
    names = pq.read_schema(io.BytesIO(place.read_bytes())).names
    column = next((name for name in ("image_path", "image", "path") if name in names), None)
    if column is None:
        raise InputError(f"score.images: {entry} has no column image_path, image or path, but {', '.join(names)}")
    return [str(path) for path in pq.read_table(io.BytesIO(place.read_bytes()), columns=[column])[column].to_pylist()]


def _output(config: Config, paths: Sequence[str]) -> Location | None:
    if config.score.output is not None:
        return locate(config.score.output)
    if len(paths) <= FEW:
        return None
    return output_place(config, "scores") / "scores.parquet"


def _write(output: Location, scores: pd.DataFrame) -> None:
    if output.name.endswith(".csv"):
        output.write_bytes(scores.to_csv(index=False).encode())
        return
    sink = io.BytesIO()
    scores.to_parquet(sink, index=False)
    output.write_bytes(sink.getvalue())


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("score")

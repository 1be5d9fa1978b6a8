"""Score images with Ray Data: folders, globs, Parquet, s3 in; one row an image out, bad ones with their reason."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_place, write_manifest
from pipelines.scoring.batch_scorer import FEW, _Parts, score_paths
from pipelines.scoring.inputs import paths_of
from pipelines.scoring.model_lookup import open_model


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


def score_images(config: Config) -> Scoring:
    """Score `score.images` with `score.model`; write a Parquet or CSV file for more than a few files."""
    started = time.time()
    if not config.score.images:
        raise InputError("nothing to score: name images (grmp score a.jpg folder/), or set score.images")
    model, bundle = open_model(config)
    paths, not_taken = paths_of(config.score.images)
    output = _output(config, paths)
    if output is not None and not output.name.endswith((".parquet", ".csv")):
        raise InputError(f"score.output {output.uri}: end it in .parquet or .csv")
    parts = None if output is None else _Parts.of(output, bundle, config)
    scores = score_paths(config, bundle, model, paths, parts)
    if output is not None and parts is not None:
        _write(output, scores)
        _write_manifest(output, config, model, scores, not_taken, started)
        parts.delete()
    return Scoring(scores, output.uri if output else None, time.time() - started)


def _output(config: Config, paths: Sequence[str]) -> Location | None:
    if config.score.output is not None:
        return locate(config.score.output)
    if len(paths) <= FEW:
        return None
    return output_place(config, "scores") / "scores.parquet"


def _write_manifest(
    output: Location, config: Config, model: str, scores: pd.DataFrame, not_taken: Sequence[NotTaken], started: float
) -> None:
    """`<name of the output>.manifest.json` beside it: a folder of the user's may hold the scores of several runs."""
    failed = scores[scores["error"].notna()]
    write_manifest(
        output.parent,
        "score",
        config,
        started,
        inputs={"model": model},
        counts={"images": len(scores), "without_score": len(failed), "not_taken": len(not_taken)},
        rejected=[{"path": row.image_path, "reason": row.error} for row in failed.itertuples()],
        not_taken=[left.as_row() for left in not_taken],
        name=f"{output.name}.manifest.json",
    )


def _write(output: Location, scores: pd.DataFrame) -> None:
    output.write_bytes(
        scores.to_csv(index=False).encode() if output.name.endswith(".csv") else scores.to_parquet(index=False)
    )

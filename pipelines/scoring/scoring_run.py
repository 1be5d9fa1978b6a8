"""Score images with Ray Data: files, folders, patterns and tables in, one row an image out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.scoring.batch_scorer import FEW, score_inputs
from pipelines.scoring.inputs import find_images
from pipelines.scoring.model_lookup import open_model
from pipelines.scoring.score_rows import SCORES, SPREAD, Parts, parquet_of

_EXTREMES = 3
"""Worst and best images that stand for many on the terminal."""


@dataclass(frozen=True)
class Scoring:
    """Result of `grmp score`."""

    scores: pd.DataFrame
    output: str | None
    seconds: float
    not_taken: Sequence[NotTaken] = ()
    """Files of the named folders and patterns that are no images."""

    @property
    def failed(self) -> pd.DataFrame:
        """Rows without a score."""
        return self.scores[self.scores["error"].notna()]

    @property
    def unlike(self) -> int:
        """Images that are unlike those that the model knows."""
        return int(self.scores["unlike"].eq(True).sum())

    @property
    def exit_code(self) -> int:
        """1 when no image at all has a score."""
        return int(len(self.failed) == len(self.scores))

    def as_json(self) -> dict[str, Any]:
        counts = {"scored": len(self.scores) - len(self.failed), "failed": len(self.failed), "unlike": self.unlike}
        not_taken = [left.as_row() for left in self.not_taken]
        return {"scores": _records(self.scores), "output": self.output, **counts, "not_taken": not_taken}

    def as_text(self) -> str:
        return "\n".join(filter(None, [scores_as_text(self.scores), self._summary(), self.output]))

    def _summary(self) -> str:
        scored, failed = len(self.scores) - len(self.failed), len(self.failed)
        first = next((f" (first: {row.image_path}: {row.error})" for row in self.failed.itertuples()), "")
        is_cut = len(self.scores) > FEW and scored > 2 * _EXTREMES
        shown = f" (the {_EXTREMES} worst and best are shown)" if is_cut else ""
        counts = f"scored {scored}{shown}," if scored else "no image has a score:"
        counts = f"{counts} {failed} failed{first}"
        unlike = f", {self.unlike} unlike what the model knows: do not rely on their scores" if self.unlike else ""
        return f"{counts}{unlike}, {self.seconds:.1f} s"


def scores_as_text(scores: pd.DataFrame) -> str:
    """A table for the terminal: all of a few images, the worst and best of many. Empty columns are left out."""
    shown = scores
    if len(scores) > FEW:
        by_quality = scores.dropna(subset="quality").sort_values("quality")
        shown = (
            by_quality
            if len(by_quality) <= 2 * _EXTREMES
            else pd.concat([by_quality[:_EXTREMES], by_quality[-_EXTREMES:]])
        )
    rows = [_shown(row) for row in _records(shown)]
    filled = {"image", "quality"} | {name for row in rows for name, cell in row.items() if cell is not None}
    return table([{name: cell for name, cell in row.items() if name in filled} for row in rows])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for the terminal: the interval on the scale of the scores where there is one."""
    low, high = row["score_low"], row["score_high"]
    if low is None:
        low, high = row["quality_low"], row["quality_high"]
    return {
        "image": row["image_path"],
        "quality": row["quality"],
        "score": row["mos_scale_score"],
        "interval": None if low is None else f"{low:.3g} to {high:.3g}",
        **({"spread": row["spread"]} if "spread" in row else {}),
        "unlike": "unlike" if row["unlike"] else None,
        "error": row["error"],
    }


def score_images(config: Config) -> Scoring:
    """Score `score.images` with `score.model`; write a Parquet or CSV file for more than a few images.

    InputError, before any image is scored, for images, an output or a model that cannot be used.
    """
    started = time.time()
    if not config.score.images:
        raise InputError("nothing to score: name images (grmp score a.jpg folder/), or set score.images")
    if config.score.output is not None and not config.score.output.endswith((".parquet", ".csv")):
        raise InputError(f"score.output {config.score.output}: end it in .parquet or .csv")
    inputs = find_images(config.score.images)
    output = _output(config, len(inputs.images))
    if output is not None:
        output.check_writable()
    model, bundle = open_model(config)
    parts = None if output is None else Parts.of(output, bundle, config)
    scores = score_inputs(config, bundle, model, inputs.images, parts)
    result = Scoring(scores, output.uri if output else None, time.time() - started, inputs.not_taken)
    if output is not None and parts is not None:
        _write(output, scores)
        _write_manifest(config, output, model, result, started)
        parts.delete()
    return result


def _output(config: Config, num_images: int) -> Location | None:
    if config.score.output is not None:
        return locate(config.score.output)
    return None if num_images <= FEW else output_folder(config, "scores") / "scores.parquet"


def _write(output: Location, scores: pd.DataFrame) -> None:
    if output.name.endswith(".csv"):
        output.write_bytes(scores.to_csv(index=False).encode())
    else:
        schema = SCORES.append(SPREAD) if SPREAD.name in scores else SCORES
        output.write_bytes(parquet_of(pa.Table.from_pandas(scores, schema=schema, preserve_index=False)))


def _write_manifest(config: Config, output: Location, model: str, result: Scoring, started: float) -> None:
    """`<name of the output>.manifest.json` beside it: a folder of the user's may hold the scores of several runs."""
    write_manifest(
        output.parent,
        "score",
        config,
        started,
        inputs={"model": model},
        counts={
            "images": len(result.scores),
            "without_score": len(result.failed),
            "unlike": result.unlike,
            "not_taken": len(result.not_taken),
        },
        rejected=[{"path": row.image_path, "reason": row.error} for row in result.failed.itertuples()],
        not_taken=[left.as_row() for left in result.not_taken],
        name=f"{output.name}.manifest.json",
    )


def _records(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None for what is missing: pandas has NaN, which JSON does not know."""
    return scores.astype(object).where(scores.notna(), None).to_dict("records")

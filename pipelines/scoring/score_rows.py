"""Rows of scores: their columns, and the files in which a scoring that is not over keeps them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.identity import digest_of
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Score
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.runtime.provenance import config_hash
from pipelines.scoring.file_stamps import unchanged
from pipelines.scoring.image_tables import ImageInput

NUMBERS = ("quality", "mos_scale_score", "quality_low", "quality_high", "score_low", "score_high", "distance")
SCORES = pa.schema(
    {
        "image_path": pa.string(),
        **dict.fromkeys(NUMBERS, pa.float64()),
        "unlike": pa.bool_(),
        "error": pa.string(),
    }
)
"""Columns of a scores file: the error is null where there is a score, the scores are null where there is an error.
Intervals, `unlike` and `distance` are null where the model keeps no held-out predictions."""
SPREAD = pa.field("spread", pa.float64())
"""A further column of it, where the model is an ensemble."""
_TEXTS = pa.list_(pa.string())
SCORED = pa.schema([*SCORES, pa.field("key", pa.string()), pa.field("notes", _TEXTS), SPREAD, ("stamps", _TEXTS)])
"""A row of it while others are scored, with `ImageInput.key`, `Score.notes`, and the stamps of the image's files."""
PART_ROWS = 512
"""Rows that a scoring which dies may have to make again, beside those in flight."""


def row_of(image: ImageInput, score: Score, stamps: Sequence[str] = ()) -> dict[str, Any]:
    """A row of SCORED. One without stamps is not used by a later run."""
    known = {"key": image.key, "image_path": image.name, "stamps": list(stamps)}
    return {**known, **dataclasses.asdict(score), "notes": list(score.notes)}


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

    def rows_of(self, images: Mapping[str, ImageInput]) -> dict[str, dict[str, Any]]:
        """Rows of those images whose files are as they were when they were scored, by `ImageInput.key`."""
        rows = [row for row in self.read() if row["key"] in images and "stamps" in row]  # earlier versions had none
        same = unchanged({stamp for row in rows for stamp in row["stamps"]})
        valid = (row for row in rows if row["stamps"] and same.issuperset(row["stamps"]))
        return {row["key"]: row | {"image_path": images[row["key"]].name} for row in valid}

    def add(self, rows: list[dict[str, Any]]) -> None:
        name = f"part-{len(self.folder.list('.parquet')):05d}.parquet"
        (self.folder / name).write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=SCORED)))

    def delete(self) -> None:
        self.folder.delete_folder()


def parquet_of(table: pa.Table) -> bytes:
    data = io.BytesIO()
    pq.write_table(table, data)
    return data.getvalue()

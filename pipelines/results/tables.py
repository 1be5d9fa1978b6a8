"""Tables of a sweep: their columns with types, once for all that write and read them."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.errors import InputError
from grmp_core.storage import Location
from pipelines.results.trial import SettingResult, Trial, TrialResult

_ARROW = {"str": pa.string(), "str | None": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}


@dataclass(frozen=True)
class Schema:
    """Columns of a table with their types. Settings of a search, whose names have a dot, follow `before`."""

    before: Mapping[str, pa.DataType]
    after: Mapping[str, pa.DataType] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.before, *self.after)

    def frame(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """The rows with every column in its type, also without a single row. What a row lacks is NaN or null."""
        keys = dict.fromkeys(key for row in rows for key in row if "." in key)
        settings = {key: pa.array([row.get(key) for row in rows]).type for key in keys}
        schema = pa.schema([*self.before.items(), *settings.items(), *self.after.items()])
        return pa.Table.from_pylist([dict(row) for row in rows], schema=schema).to_pandas()

    def write(self, file: Location, frame: pd.DataFrame) -> None:
        """Parquet. Raises KeyError for a frame that lacks a column."""
        table = pa.Table.from_pandas(frame, preserve_index=False)
        typed = {**self.before, **self.after}
        types = [(name, typed.get(name, table.schema.field(name).type)) for name in frame.columns]
        if missing := [name for name in typed if name not in frame.columns]:
            raise KeyError(f"the table for {file.name} lacks {', '.join(missing)}")
        data = io.BytesIO()
        pq.write_table(table.cast(pa.schema(types)), data)
        file.write_bytes(data.getvalue())

    def read(self, file: Location) -> pd.DataFrame:
        """InputError when a column is missing. Further columns are kept."""
        table = pq.read_table(io.BytesIO(file.read_bytes()))
        if missing := [name for name in self.columns if name not in table.column_names]:
            raise InputError(
                f"{file.uri} lacks the columns {', '.join(missing)}; it is not of a sweep, or of an earlier version's: "
                "run grmp sweep again"
            )
        return table.to_pandas()


def _types(cls: type) -> dict[str, pa.DataType]:
    return {f.name: _ARROW[str(f.type)] for f in dataclasses.fields(cls) if f.name != "settings"}


_TRIAL = {
    "trial": pa.string(),
    "lambda": pa.float64(),
    "data_ratio": pa.float64(),
    "shots": pa.int64(),
    "budget": pa.int64(),
    "split_seed": pa.int64(),
}
RESULTS = Schema(_TRIAL, _types(TrialResult))
"""One row a trial."""
SEARCH = Schema({"trial": pa.string()}, {**_types(SettingResult), "won": pa.bool_()})
"""One row a setting that a search tried."""
PREDICTIONS = Schema(
    {"image_path": pa.string(), "mos": pa.float64(), "quality": pa.float64(), "mos_scale_score": pa.float64()}
)
"""One row a test image of a trial: its human score, the predicted quality in [0, 1], and that on the score's scale."""


EXCESS = "excess"
"""A further column of predictions where the model can tell: `Likeness.excess`, above 0 of images that are unlike."""


def results_frame(rows: Iterable[tuple[Trial, TrialResult]]) -> pd.DataFrame:
    """In the order of budget, lambda and split."""
    frame = RESULTS.frame([{**trial.as_row(), **dataclasses.asdict(result)} for trial, result in rows])
    return frame.sort_values(["budget", "lambda", "split_seed"], ignore_index=True)


def search_frame(tried: Iterable[SettingResult], won: SettingResult | None) -> pd.DataFrame:
    """Best first."""

    def order(result: SettingResult) -> tuple[bool, float, str]:
        undefined = math.isnan(result.val_srcc)
        return undefined, 0.0 if undefined else -result.val_srcc, result.name

    return SEARCH.frame([{**result.as_row(), "won": result is won} for result in sorted(tried, key=order)])

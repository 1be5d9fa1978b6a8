"""The task store: distortion tasks as Parquet, `task=<type>/part-*.parquet`, read back by row.

Columns: image (fixed-shape uint8 tensor, never re-compressed), quality float32, level int8, severity float32,
reference_id, part ("support" | "query"), seed int64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.errors import InputError
from grmp_core.storage import Location
from grmp_core.tasks.distortion_tasks import Part, TaskRow

ROWS_PER_GROUP = 1
"""An episode reads single rows from all over a task; of a larger group, all rows are decoded for the one wanted."""

_LABELS = ("part", "reference_id", "level", "quality")


def task_schema(size_px: int) -> pa.Schema:
    """Arrow schema of a task file with views of `size_px`."""
    return pa.schema(
        {
            "image": pa.fixed_shape_tensor(pa.uint8(), (size_px, size_px, 3)),
            "quality": pa.float32(),
            "level": pa.int8(),
            "severity": pa.float32(),
            "reference_id": pa.string(),
            "part": pa.string(),
            "seed": pa.int64(),
        }
    )


def write_task_file(file: Location, rows: Sequence[TaskRow], size_px: int) -> int:
    """Write one Parquet file of one task, whole or not at all; -> its size in bytes."""
    schema = task_schema(size_px)
    pixels = np.stack([row.view_HW3 for row in rows]).reshape(-1)
    storage = pa.FixedSizeListArray.from_arrays(pa.array(pixels), size_px * size_px * 3)
    columns = [
        pa.ExtensionArray.from_storage(schema.field("image").type, storage),
        *(
            pa.array([getattr(row, name) for row in rows], schema.field(name).type)
            for name in schema.names
            if name != "image"
        ),
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema), sink, row_group_size=ROWS_PER_GROUP, compression="none"
    )
    buffer = sink.getvalue()
    file.write_bytes(buffer)
    return buffer.size


@dataclass(frozen=True)
class _Row:
    file: Location
    group: int
    offset: int
    quality: float


class TaskStore:
    """Random access to a task store. Labels are held in memory; pixels are read when asked for, and kept from then on
    as far as `keep_bytes` allow.

    Raises InputError when the folder holds no tasks, a file is not a task file, or rows are missing.
    """

    def __init__(self, root: Location, keep_bytes: int = 0) -> None:
        self.root, self._room_bytes = root, keep_bytes
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        files = root.list(".parquet", recursive=True)
        by_task = defaultdict(list)
        for file in files:
            folder = file.path.rsplit("/", 2)[-2]
            if folder.startswith("task="):
                by_task[folder.removeprefix("task=")].append(file)
        if not by_task:
            raise InputError(f"no task store at {root.uri}; make one with `grmp synthesize`, or correct the path")
        self.size_px = _view_size(next(iter(by_task.values()))[0])
        self._rows = {task: _index(files) for task, files in sorted(by_task.items())}
        self.tasks = tuple(self._rows)
        first = self._rows[self.tasks[0]]
        self.reference_ids: dict[Part, list[str]] = {
            "support": sorted({ref for part, ref, _ in first if part == "support"}),
            "query": sorted({ref for part, ref, _ in first if part == "query"}),
        }
        for task, rows in self._rows.items():
            if rows.keys() != first.keys():
                raise InputError(
                    f"task store {root.uri}: task '{task}' has other references or levels than '{self.tasks[0]}'; "
                    "run `grmp synthesize` again to complete it"
                )

    @property
    def num_references(self) -> dict[Part, int]:
        return {part: len(ids) for part, ids in self.reference_ids.items()}

    def read(self, task: str, part: Part, pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """-> (views (n, size, size, 3) uint8, quality (n,) float32) of n rows of one part.

        `pairs`: index of a reference in `reference_ids[part]`, and level.
        """
        ids = self.reference_ids[part]
        rows = [self._rows[task][part, ids[reference], level] for reference, level in pairs]
        groups: dict[tuple[str, int], np.ndarray] = {}
        wanted_of: dict[str, tuple[Location, set[int]]] = {}
        for row in rows:
            place = row.file.path, row.group
            if place in self._kept:
                groups[place] = self._kept[place]
            else:
                wanted_of.setdefault(row.file.path, (row.file, set()))[1].add(row.group)
        for path, (file, numbers) in wanted_of.items():
            with file.open() as source:
                parquet = pq.ParquetFile(source)
                for number in sorted(numbers):
                    table = parquet.read_row_group(number, columns=["image"])
                    views = groups[path, number] = table["image"].combine_chunks().to_numpy_ndarray()
                    if views.nbytes <= self._room_bytes:
                        self._room_bytes -= views.nbytes
                        self._kept[path, number] = views
        chosen = np.stack([groups[row.file.path, row.group][row.offset] for row in rows])
        return chosen, np.array([row.quality for row in rows], dtype=np.float32)


@contextmanager
def _opened(file: Location) -> Iterator[pq.ParquetFile]:
    """A task file to be read. InputError where it is damaged or lacks a column."""
    try:
        with file.open() as source:
            yield pq.ParquetFile(source)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file.uri} is not a readable task file ({reason}); delete it and run `grmp synthesize` again"
        ) from error


def _view_size(file: Location) -> int:
    with _opened(file) as parquet:
        image = parquet.schema_arrow.field("image").type
    if not isinstance(image, pa.FixedShapeTensorType):
        raise InputError(f"{file.uri} is not a task file: its image column is {image}; make it with `grmp synthesize`")
    return int(image.shape[0])


def _index(files: Sequence[Location]) -> dict[tuple[Part, str, int], _Row]:
    rows: dict[tuple[Part, str, int], _Row] = {}
    for file in files:
        with _opened(file) as parquet:
            sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            table = parquet.read(list(_LABELS))
            part, reference_id, level, qualities = (table[name].to_pylist() for name in _LABELS)
        places = [(group, offset) for group, size in enumerate(sizes) for offset in range(size)]
        keys = zip(part, reference_id, level, strict=True)
        for key, quality, (group, offset) in zip(keys, qualities, places, strict=True):
            rows[key] = _Row(file, group, offset, quality)
    return rows

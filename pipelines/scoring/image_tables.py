"""Images that stand in a table: Parquet (also a folder of it, as Ray writes one) or CSV.

A row has the path of an image, as seen from the table's folder, or in Parquet the encoded image itself: bytes, or a
struct {bytes, path} as Hugging Face's `datasets` writes it. Such images stay where they are until they are scored.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.datasets.image_names import ImageNames
from grmp_core.datasets.tables import open_table
from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import picture_of
from grmp_core.model.scorer import Source
from grmp_core.storage import Location, is_utf8, locate, readable
from pipelines.runtime.console import say
from pipelines.scoring.file_stamps import stamp_of

TABLE_SUFFIXES = (".parquet", ".csv")
IMAGE_COLUMNS = ("image_path", "image", "path", "file_name")
"""Columns that may hold the images; the first one that is there is taken, and one with bytes before one with paths."""
_ROWS_AT_ONCE = 16  # embedded images that are in memory while one of them is decoded


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """One image that is to be scored. All fields are plain values, so that it travels in a Ray Data row."""

    name: str
    """Its name in the table of scores: the path, or what the row of a table calls it."""
    path: str
    """Path or URI of its file, or of the Parquet file that holds it."""
    row: int = -1
    """Number of its row in that Parquet file, from 0; -1 for a file of its own."""
    folder: str = ""
    """Folder that a path in that row is relative to."""
    problem: str = ""
    """Why it cannot be scored, known without a look at it."""

    @classmethod
    def file(cls, path: str) -> ImageInput:
        """A file of its own. No table can hold a name that is not UTF-8."""
        if is_utf8(path):
            return cls(name=path, path=path)
        return cls(name=readable(path), path=readable(path), problem="its name is not UTF-8; rename it")

    @property
    def key(self) -> str:
        """Tells it from every other image of a run."""
        return f"{self.path}{f' row {self.row}' if self.row >= 0 else ''}{f': {self.problem}' if self.problem else ''}"


class ImageReader:
    """Reads the images that inputs name. The Parquet file read last stays open: rows in order cost one pass."""

    def __init__(self) -> None:
        self._table: _EmbeddedImages | None = None

    def read(self, image: ImageInput) -> Source:
        """The encoded image, the local path of one, or why there is none."""
        source = self._find(image)
        return picture_of(source) if isinstance(source, str) else source

    def read_stamped(self, image: ImageInput) -> tuple[Source, list[str]]:
        """What `read` gives, and the stamps of the files that it comes from, taken before they are read."""
        source = self._find(image)
        stamps = [self._table.stamp] if image.row >= 0 and self._table is not None else []
        if not isinstance(source, str):
            return source, stamps
        stamps.append(stamp_of(source))
        return picture_of(source), stamps

    def _find(self, image: ImageInput) -> bytes | str | ImageError:
        """An image out of a table, the path or URI of a file, or why there is neither."""
        if image.problem:
            return ImageError(image.problem)
        if image.row < 0:
            return image.path
        try:
            if self._table is None or self._table.path != image.path:
                self._table = _EmbeddedImages(image.path)
            return _image_in(self._table.cell(image.row), locate(image.folder))
        except (InputError, OSError, pa.ArrowException) as error:
            self._table = None
            return ImageError(f"cannot be read from {image.path} ({_one_line(error)})")


def images_in_table(location: Location) -> list[ImageInput]:
    """One input a row, in the order of the file, or of the sorted files of a folder.

    InputError for what is no table, has no column of images, or has no rows.
    """
    suffix = next(suffix for suffix in TABLE_SUFFIXES if location.name.lower().endswith(suffix))
    files = [location]
    if location.is_folder():
        files = [f for f in location.list(recursive=True) if f.name.lower().endswith(suffix) and f.name[0] not in "._"]
    if not files:
        raise InputError(f"the folder {location.uri} holds no {suffix} file")
    names = cache(lambda: ImageNames(location.parent))  # of an object store it takes a listing, for relative names only
    rows_of = _rows_of_csv if suffix == ".csv" else _rows_of_parquet
    images = [image for file in files for image in rows_of(file, location.parent, names)]
    if not images:
        raise InputError(f"{location.uri} has no rows")
    for note in names().notes if names.cache_info().currsize else ():
        say(f"score: {location.uri}: {note}")
    return images


def _rows_of_csv(file: Location, folder: Location, names: Callable[[], ImageNames]) -> list[ImageInput]:
    table = open_table(file)
    for note in table.notes:
        say(f"score: {note}")
    column = next((name for name in IMAGE_COLUMNS if name in table.columns), None)
    if column is None:
        raise _without_column(file, table.columns)
    return [_input_of(cast("str | None", cell), names, where) for where, (cell,) in table.rows([column])]


def _rows_of_parquet(file: Location, folder: Location, names: Callable[[], ImageNames]) -> list[ImageInput]:
    try:
        with file.open() as stream:
            table = pq.ParquetFile(stream)
            column = _image_column(table.schema_arrow, file)
            if not _is_embedded(table.schema_arrow.field(column).type):
                cells = table.read(columns=[column])[column].to_pylist()
                return [_input_of(cell, names, f"{file.name} row {row}") for row, cell in enumerate(cells, start=1)]
            labels = _labels(table, column)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, "Parquet", error) from error
    return [
        ImageInput(name=label or f"{file.uri} row {row + 1}", path=file.uri, row=row, folder=folder.uri)
        for row, label in enumerate(labels)
    ]


def _image_column(schema: pa.Schema, file: Location) -> str:
    types = {name: schema.field(name).type for name in IMAGE_COLUMNS if name in schema.names}
    if not types:
        raise _without_column(file, schema.names)
    usable = [name for name in types if _is_embedded(types[name])] + [name for name in types if _is_text(types[name])]
    if not usable:
        column, kind = next(iter(types.items()))
        raise InputError(
            f"the column {column} of {file.uri} holds {kind}; it must hold paths, encoded images as "
            "bytes, or structs of bytes and path"
        )
    return usable[0]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _is_embedded(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _labels(table: pq.ParquetFile, column: str) -> Sequence[str | None]:
    """Names that the rows give their images, read without the images; null where there are none."""
    schema = table.schema_arrow
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
        return [cell and cell["path"] for cell in table.read(columns=[f"{column}.path"])[column].to_pylist()]
    text = next((name for name in IMAGE_COLUMNS if name in schema.names and _is_text(schema.field(name).type)), None)
    return [None] * table.metadata.num_rows if text is None else table.read(columns=[text])[text].to_pylist()


def _input_of(cell: str | None, names: Callable[[], ImageNames], where: str) -> ImageInput:
    if not cell:
        return ImageInput(name=where, path=where, problem="the row names no image")
    return ImageInput.file(_path_of_uri(cell) or names().find(cell))


def _path_of_uri(name: str) -> str | None:
    """A URI as it is, or the path that a file://… stands for; null for a name that is none."""
    if "://" not in name:
        return None
    return locate(name).path if name.startswith("file://") else name


def _image_in(cell: Any, folder: Location) -> bytes | str | ImageError:
    data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if data is not None:
        return bytes(data)
    if not name:
        return ImageError("the row holds no image")
    path = posixpath.normpath(posixpath.join(folder.path, name))
    return _path_of_uri(name) or folder.at(path).uri


class _EmbeddedImages:
    """The column of images of one Parquet file, a few rows in memory at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = stamp_of(path)
        location = locate(path)
        stream = location.filesystem.open_input_file(location.path)
        self._table = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
        self._column = _image_column(self._table.schema_arrow, location)
        groups = range(self._table.num_row_groups)
        self._first_rows = [0, *accumulate(self._table.metadata.row_group(group).num_rows for group in groups)]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._cells: pa.Array = pa.nulls(0)
        self._first, self._end = 0, 0
        """Rows that `_cells` and the batches behind it are."""

    def cell(self, row: int) -> Any:
        if not self._first <= row < self._end:
            group = bisect_right(self._first_rows, row) - 1
            self._first, self._end = self._first_rows[group], self._first_rows[group + 1]
            self._batches = self._table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[self._column])
            self._cells = pa.nulls(0)
        while row >= self._first + len(self._cells):
            self._first += len(self._cells)
            self._cells = next(self._batches).column(0)
        return self._cells[row - self._first].as_py()


def _unreadable(file: Location, kind: str, error: Exception) -> InputError:
    return InputError(f"{file.uri} is no readable {kind} file ({_one_line(error)}); write it again")


def _without_column(file: Location, names: Sequence[str]) -> InputError:
    columns, recognized = ", ".join(names) or "none", ", ".join(IMAGE_COLUMNS)
    return InputError(f"{file.uri} has no column of images ({recognized}); its columns: {columns}; rename one")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Any labelled folder: a CSV or Parquet file with one row an image."""

import csv
import hashlib
import io
import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.datasets.labelled import LabelledSet, LabelRow, RejectLimits, ScoreRange, build, relative
from grmp_core.errors import InputError
from grmp_core.storage import locate

LABEL_SUFFIXES = (".csv", ".parquet")
_READ_BYTES = 1 << 20


def load_table(
    path: str,
    limits: RejectLimits,
    *,
    image_column: str = "image",
    score_column: str = "mos",
    reference_column: str | None = None,
    score_range: ScoreRange | None = None,
    higher_is_better: bool = True,
) -> LabelledSet:
    """Load a CSV (comma, header, UTF-8) or Parquet file, or a folder that holds exactly one such file.

    `path` may be on an object store (s3://…). Image paths are absolute (a URI there), or relative to the label file's
    folder. Without `reference_column` every image is its own reference, except that local files with equal bytes share
    one, so that no split has the same photo on both sides.

    Raises:
        InputError: no label file, several of them, a missing column, or what `labelled.build` refuses.
    """
    label_file = _find_label_file(path)
    root = label_file.rpartition("/")[0] if _is_remote(path) else os.path.dirname(os.path.abspath(label_file))
    columns = [image_column, score_column, *([reference_column] if reference_column else [])]
    read = _read_parquet if label_file.lower().endswith(".parquet") else _read_csv
    rows = [
        _to_row(where, values, root, label_file, reference=reference_column is not None)
        for where, values in read(label_file, columns)
    ]
    notes: list[str] = []
    if _is_remote(path):
        exists = _listed(root)
        if reference_column is None:
            notes = ["images of an object store are not compared: equal files count as different references"]
    else:
        exists = os.path.isfile
        if reference_column is None:
            rows, notes = _join_equal_files(rows)
    return build(
        "table", root, rows, score_range, limits, higher_is_better=higher_is_better, notes=notes, exists=exists
    )


def read_csv(label_file: str, columns: list[str]) -> list[tuple[str, list[str | None]]]:
    """The named columns of a CSV with a header, as (file and line, values) a row; blank lines are left out.

    Raises:
        InputError: not UTF-8, not CSV, or a column is missing (the message lists those that are there).
    """
    name = os.path.basename(label_file)
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        text = locate(label_file).read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        places = _places(header, columns, label_file)
        rows = [(f"{name} line {reader.line_num}", _pick(cells, places)) for cells in reader if any(cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{label_file}: not a UTF-8 CSV file: {error}") from error
    except OSError as error:
        raise InputError(f"{label_file}: cannot be read: {error.strerror}") from error
    return rows


def _read_csv(label_file: str, columns: list[str]) -> Iterable[tuple[str, list[object]]]:
    return [(where, list(values)) for where, values in read_csv(label_file, columns)]


def _read_parquet(label_file: str, columns: list[str]) -> Iterable[tuple[str, list[object]]]:
    name = os.path.basename(label_file)
    try:
        file = pq.ParquetFile(pa.BufferReader(locate(label_file).read_bytes()))
        _places(file.schema_arrow.names, columns, label_file)
        table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{label_file}: not a readable Parquet file: {' '.join(str(error).split())}") from error
    lists = [table[column].to_pylist() for column in columns]
    return [(f"{name} row {number}", list(values)) for number, values in enumerate(zip(*lists, strict=True), start=1)]


def _find_label_file(path: str) -> str:
    if _is_remote(path):
        if path.lower().endswith(LABEL_SUFFIXES):
            return path
        there = [file.name for file in locate(path).list() if file.name.lower().endswith(LABEL_SUFFIXES)]
        return f"{path.rstrip('/')}/{_the_one(there, path)}"
    if os.path.isfile(path):
        if not path.lower().endswith(LABEL_SUFFIXES):
            raise InputError(f"{path}: labels must be a .csv or .parquet file")
        return path
    if not os.path.isdir(path):
        raise InputError(f"{path}: no such label file or folder")
    there = sorted(name for name in os.listdir(path) if name.lower().endswith(LABEL_SUFFIXES))
    return os.path.join(path, _the_one(there, path))


def _the_one(found: list[str], path: str) -> str:
    if len(found) != 1:
        problem = f"several label files, name one of {', '.join(found)}" if found else "a folder without labels"
        raise InputError(f"{path}: {problem}; labels are a .csv or .parquet with an image and a score column")
    return found[0]


def _is_remote(path: str) -> bool:
    return "://" in path


def _listed(root: str) -> Callable[[str], bool]:
    """Whether a remote file is there, by one listing of the label file's folder; elsewhere, reading it will tell."""
    there = {file.uri for file in locate(root).list(recursive=True)}
    return lambda uri: uri in there or not uri.startswith(f"{root}/")


def _places(header: list[str], columns: list[str], label_file: str) -> list[int]:
    absent = [column for column in columns if column not in header]
    if absent:
        there = ", ".join(header) or "none"
        raise InputError(f"{label_file}: no column {', '.join(map(repr, absent))}; the columns are: {there}")
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise InputError(f"{label_file}: the column {twice[0]!r} is there {header.count(twice[0])} times")
    return [header.index(column) for column in columns]


def _pick(cells: list[str], places: list[int]) -> list[str | None]:
    return [cells[place].strip() if place < len(cells) else None for place in places]


def _to_row(where: str, values: list[object], root: str, label_file: str, *, reference: bool) -> LabelRow:
    image = values[0]
    if not isinstance(image, str) or not image:
        raise InputError(f"{label_file}: {where}: the image name is {image!r}; it must be a path")
    if reference and (values[2] is None or str(values[2]) == ""):
        raise InputError(f"{label_file}: {where}: the reference is empty; name one, or load without a reference column")
    if _is_remote(image):
        image_path = image
    elif _is_remote(root):
        image_path = f"{root}/{posixpath.normpath(image)}"
    else:
        image_path = os.path.normpath(os.path.join(root, image))
    reference_id = str(values[2]) if reference else relative(image_path, root)
    return LabelRow(where, image_path, values[1], reference_id)


def _join_equal_files(rows: list[LabelRow]) -> tuple[list[LabelRow], list[str]]:
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in {row.image_path for row in rows if os.path.isfile(row.image_path)}:
        by_size[os.path.getsize(path)].append(path)
    by_content: dict[str, list[str]] = defaultdict(list)
    for paths in by_size.values():
        if len(paths) > 1:
            for path in paths:
                by_content[_digest(path)].append(path)
    reference_of = {row.image_path: row.reference_id for row in rows}
    shared = {path: reference_of[min(paths)] for paths in by_content.values() if len(paths) > 1 for path in paths}
    joined = [replace(row, reference_id=shared.get(row.image_path, row.reference_id)) for row in rows]
    notes = [f"{len(shared)} files have the same bytes as another one; each such group is one reference"]
    return joined, notes if shared else []


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

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

from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, RejectLimits, build, relative
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate

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
    label_file = _find_label_file(locate(path))
    root = label_file.parent
    columns = [image_column, score_column, *([reference_column] if reference_column else [])]
    read = _read_parquet if label_file.name.lower().endswith(".parquet") else _read_csv
    rows = [
        _to_row(where, values, root, label_file.uri, reference=reference_column is not None)
        for where, values in read(label_file.uri, columns)
    ]
    notes: list[str] = []
    if reference_column is None and root.is_local:
        rows, notes = _join_equal_files(rows)
    elif reference_column is None:
        notes = ["images of an object store are not compared: equal files count as different references"]
    exists = _exists_by(root)
    return build(
        "table", root.uri, rows, score_range, limits, higher_is_better=higher_is_better, notes=notes, exists=exists
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


def _find_label_file(place: Location) -> Location:
    is_folder = os.path.isdir(place.path) if place.is_local else not place.name.lower().endswith(LABEL_SUFFIXES)
    if place.is_local and not os.path.exists(place.path):
        raise InputError(f"{place.uri}: no such label file or folder")
    if not is_folder:
        if not place.name.lower().endswith(LABEL_SUFFIXES):
            raise InputError(f"{place.uri}: labels must be a .csv or .parquet file")
        return place
    found = [file for file in place.list() if file.name.lower().endswith(LABEL_SUFFIXES)]
    if len(found) != 1:
        several = f"several label files, name one of {', '.join(file.name for file in found)}"
        problem = several if found else "a folder without labels"
        raise InputError(f"{place.uri}: {problem}; labels are a .csv or .parquet with an image and a score column")
    return found[0]


def _exists_by(root: Location) -> Callable[[str], bool]:
    """Whether an image is there: of an object store by one listing of the label file's folder, and what lies elsewhere
    in one will tell when it is read."""
    if root.is_local:
        return lambda path: "://" in path or os.path.isfile(path)
    there = {file.uri for file in root.list(recursive=True)}
    below = root.at(f"{root.path}/").uri.partition("?")[0]
    return lambda uri: uri in there or not uri.startswith(below)


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


def _to_row(where: str, values: list[object], root: Location, label_file: str, *, reference: bool) -> LabelRow:
    image = values[0]
    if not isinstance(image, str) or not image:
        raise InputError(f"{label_file}: {where}: the image name is {image!r}; it must be a path")
    if reference and (values[2] is None or str(values[2]) == ""):
        raise InputError(f"{label_file}: {where}: the reference is empty; name one, or load without a reference column")
    if "://" in image:
        image_path = image
    elif root.is_local:
        image_path = os.path.normpath(os.path.join(root.path, image))
    else:
        image_path = root.at(posixpath.normpath(posixpath.join(root.path, image))).uri
    reference_id = str(values[2]) if reference else relative(image_path, root.uri)
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

"""Any labelled folder: a CSV or Parquet file with one row an image."""

import csv
import glob
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.datasets.image_names import ImageNames
from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build, relative
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate

LABEL_SUFFIXES = (".csv", ".parquet")


def load_table(
    path: str,
    max_reject_fraction: float,
    *,
    image_column: str = "image",
    score_column: str = "mos",
    reference_column: str | None = None,
    score_range: ScoreRange | None = None,
    higher_is_better: bool = True,
    image_folder: str | None = None,
) -> LabelledSet:
    """Load a CSV (comma, header, UTF-8) or Parquet file, or a folder that holds exactly one such file.

    `path` may be on an object store (s3://…). Image paths are absolute (a URI there), or relative to `image_folder`,
    which is itself relative to the label file's folder (null: that folder). `ImageNames` says which names stand for a
    file that is spelled differently; `notes` of the set counts them. Without `reference_column` every image is its own
    reference, except that local files with equal bytes share one, so that no split has the same photo on both sides.

    Raises:
        InputError: no label file, several of them, a missing column, no such image folder, or what `labelled_set.build`
            refuses.
    """
    label_file = _find_label_file(locate(path))
    root = label_file.parent
    columns = [image_column, score_column, *([reference_column] if reference_column else [])]
    read: Callable[[str, list[str]], Sequence[tuple[str, Sequence[object]]]]
    read = _read_parquet if label_file.name.lower().endswith(".parquet") else read_csv
    images = ImageNames(_find_image_folder(root, image_folder))
    rows = [
        _to_row(where, values, root, images, label_file.uri, reference=reference_column is not None)
        for where, values in read(label_file.uri, columns)
    ]
    named = [row for row in rows if not row.problem]
    if not any(images.exists(row.image_path) for row in named):
        _hint_at_subfolder(root, images, named)
    notes = images.notes
    if reference_column is None and images.folder.is_local:
        rows, equal = _join_equal_files(rows)
        notes += equal
    elif reference_column is None:
        notes.append("images of an object store are not compared: equal files count as different references")
    return build(
        "table",
        root.uri,
        rows,
        score_range,
        max_reject_fraction,
        higher_is_better=higher_is_better,
        notes=notes,
        exists=images.exists,
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
        _refuse_other_separator(header, columns, label_file)
        positions = _positions(header, columns, label_file)
        rows = [(f"{name} line {reader.line_num}", _pick(cells, positions)) for cells in reader if any(cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{label_file}: not a UTF-8 CSV file: {error}") from error
    except OSError as error:
        raise InputError(f"{label_file}: cannot be read: {error.strerror}") from error
    return rows


def _read_parquet(label_file: str, columns: list[str]) -> Sequence[tuple[str, Sequence[object]]]:
    name = os.path.basename(label_file)
    try:
        file = pq.ParquetFile(pa.BufferReader(locate(label_file).read_bytes()))
        _positions(file.schema_arrow.names, columns, label_file)
        table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{label_file}: not a readable Parquet file: {' '.join(str(error).split())}") from error
    lists = [table[column].to_pylist() for column in columns]
    return [(f"{name} row {number}", values) for number, values in enumerate(zip(*lists, strict=True), start=1)]


def _find_label_file(location: Location) -> Location:
    is_label_file = location.name.lower().endswith(LABEL_SUFFIXES)
    is_folder = os.path.isdir(location.path) if location.is_local else not is_label_file
    if location.is_local and not os.path.exists(location.path):
        raise InputError(f"{location.uri}: no such label file or folder")
    if not is_folder:
        if not is_label_file:
            raise InputError(f"{location.uri}: labels must be a .csv or .parquet file")
        return location
    files = [file for file in location.list() if file.name.lower().endswith(LABEL_SUFFIXES)]
    if len(files) != 1:
        several = f"several label files, name one of {', '.join(file.name for file in files)}"
        problem = several if files else "a folder without labels"
        raise InputError(f"{location.uri}: {problem}; labels are a .csv or .parquet with an image and a score column")
    return files[0]


def _find_image_folder(root: Location, image_folder: str | None) -> Location:
    if image_folder is None:
        return root
    if "://" in image_folder:
        return locate(image_folder)
    folder = root.at(os.path.normpath(os.path.join(root.path, image_folder)))
    if folder.is_local and not os.path.isdir(folder.path):
        raise InputError(f"image_folder {folder.path}: no such folder; give it relative to the labels in {root.uri}")
    return folder


def _hint_at_subfolder(root: Location, images: ImageNames, rows: list[LabelRow]) -> None:
    """InputError when no image is where the names say, but the first one is in a folder beside the label file or beside
    the label file's folder."""
    if not rows or not root.is_local:
        return  # of an object store the listing of every folder would take its time
    name = os.path.basename(rows[0].image_path)
    for folder in sorted(
        [*glob.glob(f"{glob.escape(root.path)}/*/"), *glob.glob(f"{glob.escape(root.parent.path)}/*/")]
    ):
        if os.path.isfile(os.path.join(folder, name)):
            where = os.path.relpath(folder, root.path)
            raise InputError(
                f"none of the {len(rows)} images is in {images.folder.path}, but {name} is in {where}: "
                f"set target.image_folder={where}"
            )


def _refuse_other_separator(header: list[str], columns: list[str], label_file: str) -> None:
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "|")):
        cells = [cell.strip() for cell in header[0].split(separator)] if len(header) == 1 else []
        if len(cells) > 1 and set(columns) & set(cells):
            raise InputError(
                f"{label_file}: the columns are separated by {word}; save it with commas between them, and a point in "
                "decimal numbers"
            )


def _positions(header: list[str], columns: list[str], label_file: str) -> list[int]:
    absent = [column for column in columns if column not in header]
    if absent:
        there = ", ".join(header) or "none"
        raise InputError(f"{label_file}: no column {', '.join(map(repr, absent))}; the columns are: {there}")
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise InputError(f"{label_file}: the column {twice[0]!r} is there {header.count(twice[0])} times")
    return [header.index(column) for column in columns]


def _pick(cells: list[str], positions: list[int]) -> list[str | None]:
    return [cells[position].strip() if position < len(cells) else None for position in positions]


def _to_row(
    where: str, values: Sequence[object], root: Location, images: ImageNames, label_file: str, *, reference: bool
) -> LabelRow:
    image = values[0]
    if not isinstance(image, str) or not image:
        return LabelRow(where, label_file, values[1], "", problem=f"the image name is {image!r}; it must be a path")
    if reference and (values[2] is None or str(values[2]) == ""):
        problem = "the reference is empty; name one, or load without a reference column"
        return LabelRow(where, images.find(image), values[1], "", problem=problem)
    image_path = images.find(image)
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
                with open(path, "rb") as stream:
                    by_content[hashlib.file_digest(stream, "sha256").hexdigest()].append(path)
    reference_of = {row.image_path: row.reference_id for row in rows}
    shared = {path: reference_of[min(paths)] for paths in by_content.values() if len(paths) > 1 for path in paths}
    joined = [replace(row, reference_id=shared.get(row.image_path, row.reference_id)) for row in rows]
    notes = [f"{len(shared)} files have the same bytes as another one; each such group is one reference"]
    return joined, notes if shared else []

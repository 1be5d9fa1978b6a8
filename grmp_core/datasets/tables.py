"""Tables of labels in the forms that people have them: CSV, TSV, text, Parquet, JSON lines, Excel.

How a text table is written (character set, sign between columns, quotes) is recognized; whatever differs from a UTF-8
CSV with commas is said in `LabelTable.notes`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from grmp_core.errors import InputError
from grmp_core.storage import Location

Row = tuple[str, Sequence[object]]
"""File and line as a person would look for it, and the values."""
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".xlsx")
"""Endings of files that are taken for a table where only a folder is named."""
READABLE_SUFFIXES = (*TABLE_SUFFIXES, ".json", ".txt")
"""Endings of files that are read as a table where they are named."""

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "|", " ": "blanks"}
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_SAMPLE_LINES = 50
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
_LINE_END = re.compile(r"\r\n?|\n")
"""Ends of lines of JSON; others, such as U+2028, may stand inside its texts."""
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_WHOLE = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A table that is open: its columns are known, its rows are read when they are asked for."""

    uri: str
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """How it is written, where that is not a UTF-8 CSV with commas; one line each."""
    read: Callable[[Sequence[int]], Iterable[Row]]
    """Positions of columns -> their values, row by row."""

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Values of the named columns. InputError for one that is missing or there more than once."""
        absent = [column for column in columns if column not in self.columns]
        if absent:
            there = ", ".join(self.columns) or "none"
            raise InputError(f"{self.uri}: no column {', '.join(map(repr, absent))}; the columns are: {there}")
        twice = [column for column in columns if self.columns.count(column) > 1]
        if twice:
            raise InputError(f"{self.uri}: the column {twice[0]!r} is there {self.columns.count(twice[0])} times")
        return iter(self.read([self.columns.index(column) for column in columns]))


def open_table(
    file: Location, *, header: Sequence[str] = (), sheet: str | None = None, needed: Sequence[str] = ()
) -> LabelTable:
    """Open a table by the ending of its name.

    Args:
        file: the table, here or on an object store.
        header: names of the columns of a text table that has no line with them.
        sheet: of an Excel file; null: the first one with the `needed` columns.
        needed: columns that tell the header of an Excel file from lines above it.

    Raises:
        InputError: a kind of file that is not read, or one that is not what its ending says.
    """
    suffix = f".{file.name.rpartition('.')[2].lower()}"
    if suffix == ".parquet":
        return _open_parquet(file)
    if suffix == ".xlsx":
        return _open_excel(file, sheet, needed)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _open_json(file)
    if suffix in (".csv", ".tsv", ".txt"):
        return _open_text(file, header)
    hint = "; save it as .xlsx or .csv" if suffix in (".xls", ".ods") else ""
    raise InputError(f"{file.uri}: labels must be one of {', '.join(READABLE_SUFFIXES)}{hint}")


def with_points(scores: Sequence[object], name: str) -> tuple[Sequence[object], str | None]:
    """Scores that are written with a decimal comma throughout, as text with a point, and the line that says so.

    Where one score has a point, none is changed: a comma may then be another thing.

    InputError where the commas may stand before thousands: each has three digits behind it, and a score without one is
    more than twice as large as the largest with one, read as decimals.
    """
    texts = [score.strip() for score in scores if isinstance(score, str) and score.strip()]
    with_comma = sum(_DECIMAL_COMMA.fullmatch(text) is not None for text in texts)
    if not with_comma or not all(_DECIMAL_COMMA.fullmatch(text) or _WHOLE.fullmatch(text) for text in texts):
        return scores, None
    _check_no_thousands(scores, texts, name)
    changed = [score.replace(",", ".") if isinstance(score, str) else score for score in scores]
    return changed, f"{name}: scores have a decimal comma, such as {next(t for t in texts if ',' in t)}"


def _check_no_thousands(scores: Sequence[object], texts: Sequence[str], name: str) -> None:
    with_comma = [text for text in texts if "," in text]
    if not all(_THOUSANDS.fullmatch(text) for text in with_comma):
        return
    limit = 2 * max(math.ceil(abs(float(text.replace(",", ".")))) for text in with_comma)
    whole = [float(text) for text in texts if "," not in text]
    whole += [score for score in scores if isinstance(score, int | float)]
    large = next((number for number in whole if abs(number) > limit), None)
    if large is not None:
        first = with_comma[0]
        raise InputError(
            f"{name}: beside the score {large:g}, the comma in {first} may stand before thousands or before decimals; "
            f"write {first.replace(',', '')} or {first.replace(',', '.')}, and all others in the same way"
        )


# --- text ------------------------------------------------------------------------------------------------------------


def _open_text(file: Location, header: Sequence[str]) -> LabelTable:
    data = _bytes_of(file)
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", "utf-8"))
    try:
        text = data.decode(encoding)
        separator, quote = _dialect(text, file.name)
        cells = list(_cells(text, separator, quote))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file.uri}: not a UTF-8 CSV file: {error}") from error
    if header:
        _check_width(file, cells, header)
    elif cells:
        header = [cell.strip() for cell in cells.pop(0)[1]]

    def read(positions: Sequence[int]) -> Iterator[Row]:
        for line, values in cells:
            yield f"{file.name} line {line}", [values[p].strip() if p < len(values) else None for p in positions]

    written = [f"{_SEPARATORS[separator]} between columns"] if separator != "," else []
    written += ["single quotes"] if quote == "'" else []
    written += ["a byte-order mark"] if mark else []
    written += ["UTF-16"] if encoding == "utf-16" else []
    notes = (f"{file.name}: read with {', '.join(written)}",) if written else ()
    return LabelTable(uri=file.uri, columns=tuple(header), notes=notes, read=read)


def _dialect(text: str, name: str) -> tuple[str, str]:
    """The sign between columns that cuts the first lines into the most even rows of two or more cells; the quote."""
    lines = [line for line in text.splitlines()[: _SAMPLE_LINES + 1] if line.strip()]
    quoted = re.compile(r"'[^']*'")
    quote = "'" if lines and any(len(quoted.findall(line)) > 1 for line in lines) and '"' not in text else '"'
    best, evenness = "\t" if name.lower().endswith(".tsv") else ",", 0.0
    for separator in _SEPARATORS:
        if separator == " " and not name.lower().endswith(".txt"):
            continue
        try:
            widths = [len(cells) for _, cells in _cells("\n".join(lines), separator, quote)]
        except csv.Error:
            continue
        even = sum(width == widths[0] for width in widths) / len(widths) if widths and widths[0] > 1 else 0.0
        if even > evenness:
            best, evenness = separator, even
    return best, quote


def _cells(text: str, separator: str, quote: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that is not blank."""
    if separator == " ":
        yield from ((number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip())
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator, quotechar=quote)
    yield from ((reader.line_num, cells) for cells in reader if any(cells))


def _check_width(file: Location, rows: Sequence[tuple[int, list[str]]], header: Sequence[str]) -> None:
    for line, values in rows:
        if len(values) != len(header):
            raise InputError(
                f"{file.uri}: line {line} has {len(values)} cells ({', '.join(values)[:80]}), expected "
                f"{len(header)}: {', '.join(header)}"
            )


# --- Parquet, JSON lines, Excel --------------------------------------------------------------------------------------


def _open_parquet(file: Location) -> LabelTable:
    try:
        parquet = pq.ParquetFile(pa.BufferReader(_bytes_of(file)))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file.uri}: not a readable Parquet file: {' '.join(str(error).split())}") from error
    names = tuple(parquet.schema_arrow.names)

    def read(positions: Sequence[int]) -> Iterator[Row]:
        columns = [names[position] for position in positions]
        number = 0
        try:
            for batch in parquet.iter_batches(columns=columns):
                for values in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                    number += 1
                    yield f"{file.name} row {number}", values
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.uri}: not a readable Parquet file: {' '.join(str(error).split())}") from error

    return LabelTable(uri=file.uri, columns=names, read=read)


def _open_json(file: Location) -> LabelTable:
    """One object a line, or one list of objects."""
    try:
        text = _bytes_of(file).decode("utf-8-sig")
        if text.lstrip().startswith("["):
            objects = [(f"{file.name} entry {number}", entry) for number, entry in enumerate(json.loads(text), 1)]
        else:
            lines = enumerate(_LINE_END.split(text), 1)
            objects = [(f"{file.name} line {number}", json.loads(line)) for number, line in lines if line.strip()]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file.uri}: not JSON with one object a line: {error}") from error
    wrong = next((where for where, entry in objects if not isinstance(entry, dict)), None)
    if wrong:
        raise InputError(f"{wrong}: not an object with keys, such as {{'image': 'a.png', 'mos': 3.5}}")
    names = tuple(dict.fromkeys(key for _, entry in objects for key in entry))

    def read(positions: Sequence[int]) -> Iterator[Row]:
        for where, entry in objects:
            yield where, [entry.get(names[position]) for position in positions]

    return LabelTable(uri=file.uri, columns=names, read=read)


def _open_excel(file: Location, sheet: str | None, needed: Sequence[str]) -> LabelTable:
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"{file.uri}: Excel files need openpyxl: pip install 'grmp-iqa[excel]', or save it as CSV"
        ) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(_bytes_of(file)), read_only=True, data_only=True)
        sheets = {cells.title: cells for cells in book.worksheets}
        wanted = sheets if sheet is None else {sheet} & set(sheets)
        tables = [_excel_table(file, name, sheets[name], needed) for name in wanted]
    except InputError:
        raise
    except Exception as error:  # openpyxl raises nearly any type for a damaged file
        raise InputError(f"{file.uri}: not a readable Excel file: {' '.join(str(error).split())[:200]}") from error
    if not tables:
        absent = "of cells" if sheet is None else repr(sheet)
        raise InputError(f"{file.uri}: no sheet {absent}; the sheets are: {', '.join(sheets) or 'only charts'}")
    fitting = [table for table in tables if table.columns and set(needed) <= set(table.columns)]
    chosen = (fitting or [table for table in tables if table.columns] or tables)[0]
    notes = (f"{file.name}: read from the sheet {chosen.uri.partition('!')[2]!r}",) if len(tables) > 1 else ()
    return LabelTable(uri=file.uri, columns=chosen.columns, notes=notes, read=chosen.read)


def _excel_table(file: Location, sheet: str, cells: Any, needed: Sequence[str]) -> LabelTable:
    """The header is the first row with the needed columns, or with at least two words."""
    cells.reset_dimensions()  # some programs write a size that leaves rows out
    rows = list(enumerate(cells.iter_rows(values_only=True), 1))
    heads = [
        tuple("" if value is None else str(value).strip() for value in values) for _, values in rows[:_SAMPLE_LINES]
    ]
    fitting = [index for index, words in enumerate(heads) if needed and set(needed) <= set(words)]
    wide = [index for index, words in enumerate(heads) if sum(map(bool, words)) > 1]
    header = next(iter(fitting or wide), None)
    start, names = (0, ()) if header is None else (header + 1, heads[header])

    def read(positions: Sequence[int]) -> Iterator[Row]:
        for number, values in rows[start:]:
            picked = [values[position] if position < len(values) else None for position in positions]
            if any(value is not None for value in picked):
                yield f"{file.name} row {number}", picked

    return LabelTable(uri=f"{file.uri}!{sheet}", columns=names, read=read)


def _bytes_of(file: Location) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file.uri}: cannot be read: {error.strerror or error}") from error

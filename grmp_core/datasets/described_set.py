"""Reads a labelled set as its `Description` says, from where it was downloaded to."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from grmp_core.datasets.description import Description, Part
from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build, relative
from grmp_core.datasets.matlab import read_variable
from grmp_core.datasets.set_layout import Images, check_some_images, find_set, matching_files
from grmp_core.datasets.tables import open_table, with_points
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate

Fields = dict[str, object]
_Lookup = Mapping[str, Mapping[str, Mapping[str, str]]]
T = TypeVar("T")
_FIELD = re.compile(r"\{([^{}]+)\}")


def load_described(name: str, description: Description, path: str, max_reject_fraction: float) -> LabelledSet:
    """Load a set as downloaded: `path` is its folder, or the folder above it.

    Raises:
        InputError: the folder has another layout (the message has what was expected beside what is there), a table is
            not as described, or what `labelled_set.build` refuses.
    """
    if not description.score:
        raise InputError(f"{description.title} has no scores; it is a source of originals: synthesize.source={name}")
    root, variant = find_set(description, locate(path))
    read, notes = _read_rows(variant, root)
    notes = [variant.note, *notes] if variant.note else notes
    images = Images(variant, root)
    parts = _part_lists(variant, root)
    notes += _notes_on_parts(variant, root, parts, {entry.image for entry in read})
    kept, dropped = _without_dropped(variant, read)
    scores, comma = with_points([entry.fields.get(variant.score) for entry in kept], variant.title)
    reader = _RowReader(name, variant, root, images, parts)
    rows = [reader.row(entry, score) for entry, score in zip(kept, scores, strict=True)]
    check_some_images(variant, root, images, rows)
    if variant.count and len(rows) != variant.count:
        notes.append(f"{len(rows)} label rows; the whole of {variant.title} has {variant.count}")
    notes += [*dropped, *([comma] if comma else []), *images.notes]
    if variant.part_files and not parts:
        files = ", ".join(file.file for file in variant.part_files.values())
        notes.append(f"without its official split: {files} is not in {root.uri}")
    scale = None
    if variant.range is not None:
        scale = ScoreRange(
            mos_min=variant.range[0], mos_max=variant.range[1], higher_is_better=variant.higher_is_better
        )
    return build(
        name,
        root.uri,
        rows,
        scale,
        max_reject_fraction,
        higher_is_better=variant.higher_is_better,
        notes=notes,
        exists=images.exists,
    )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A label row with all of its fields; what does not fit the description is its `problem`."""

    where: str
    fields: Fields
    image: str
    part: Part | None
    problem: str = ""


def _entry(variant: Description, where: str, fields: Fields, part: Part | None = None) -> _Entry:
    """A row of a table with the fields that `lookup` and `pattern` add; the image's name may need some of the first."""
    image, problem = "", ""
    try:
        fields, waiting = _looked_up(variant.lookup, fields)
        image = _render(variant.image, fields)
        if not image or image.endswith("/"):
            raise _MisfitError(f"the image name is {image!r}; it must be a path")
        fields |= {"stem": os.path.splitext(os.path.basename(image))[0]} | _groups(variant, image)
        fields, waiting = _looked_up(waiting, fields)
        if waiting:
            raise _MisfitError(_without(next(iter(waiting)), fields))
    except _MisfitError as misfit:
        problem = str(misfit)
    return _Entry(where=where, fields=fields, image=image, part=part, problem=problem)


def _looked_up(lookup: _Lookup, fields: Fields) -> tuple[Fields, _Lookup]:
    """Fields with what they lead to; and those lookups whose own field is not there."""
    fields, waiting = dict(fields), {}
    for field, values in lookup.items():
        if field in fields:
            fields |= _chosen(values, _text(fields[field]), field)
        else:
            waiting[field] = values
    return fields, waiting


def _groups(variant: Description, image: str) -> dict[str, str]:
    if variant.pattern is None:
        return {}
    match = re.fullmatch(variant.pattern, image)
    if match is None:
        raise _MisfitError(f"{image!r} is not a file name of {variant.title}")
    return match.groupdict()


def _read_rows(variant: Description, root: Location) -> tuple[list[_Entry], list[str]]:
    """Every label row; and how the tables are written."""
    if variant.matlab:
        return [_entry(variant, where, fields) for where, fields in _read_matlab(variant, root)], []
    rows: list[_Entry] = []
    notes: list[str] = []
    columns = sorted(_columns(variant))
    for table in variant.tables:
        for file in matching_files(root, table.file):
            opened = open_table(file, header=variant.columns, sheet=variant.sheet, needed=columns)
            notes += [note for note in opened.notes if not variant.sheet and not variant.columns]
            rows += [
                _entry(variant, where, dict(zip(columns, values, strict=True)), table.part)
                for where, values in opened.rows(columns)
            ]
    return rows, notes


def _read_matlab(variant: Description, root: Location) -> Iterator[tuple[str, Fields]]:
    columns = {}
    for column, place in variant.matlab.items():
        file, _, variable = place.rpartition(":")
        columns[column] = read_variable(root / file, variable)
    absent = _columns(variant) - {*columns, *(("folder", "number") if variant.numbered else ())}
    if absent:
        raise InputError(
            f"{variant.title}: the description names {', '.join(sorted(absent))}, but `matlab` has no such column"
        )
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) != 1:
        counts = ", ".join(f"{count} of {variant.matlab[column]}" for column, count in lengths.items())
        raise InputError(f"{root.uri}: the label files do not fit together: {counts} entries; download them again")
    count = next(iter(lengths.values()))
    numbers: list[Fields] = [
        {"folder": f, "number": n} for f, last in variant.numbered.items() for n in range(1, last + 1)
    ]
    if numbers and len(numbers) != count:
        parts = ", ".join(f"{folder} {last}" for folder, last in variant.numbered.items())
        raise InputError(f"{root.uri}: {count} label rows, expected {len(numbers)}: {parts}")
    stem = os.path.basename(next(iter(variant.matlab.values()))).rpartition(":")[0]
    for row in range(count):
        fields = {column: values[row] for column, values in columns.items()}
        yield f"{stem} row {row + 1}", {**fields, **(numbers[row] if numbers else {})}


def _columns(variant: Description) -> set[str]:
    """Columns of the tables that a description needs."""
    names = [variant.reference, variant.distortion, variant.level, variant.part]
    used = {field for name in names if name for field in _fields_of(name)}
    used |= {variant.score, *variant.lookup, *(drop.field for drop in variant.drop)}
    found = {field for values in variant.lookup.values() for more in values.values() for field in more}
    of_image = {"stem", *(re.compile(variant.pattern).groupindex if variant.pattern else ())}
    return ({*_fields_of(variant.image)} | (used - of_image)) - found


def _fields_of(name: str) -> list[str]:
    return _FIELD.findall(name) if "{" in name else [name]


def _without_dropped(variant: Description, rows: list[_Entry]) -> tuple[list[_Entry], list[str]]:
    counts: Counter[str] = Counter()
    first = variant.first_rows
    if first is not None:
        stems = [os.path.splitext(row.image)[0] for row in rows[: len(first.stems)]]
        if stems != list(first.stems):
            raise InputError(
                f"{rows[0].where if rows else variant.title}: expected {', '.join(first.stems)} first ({first.why}), "
                f"found {', '.join(stems) or 'no rows'}"
            )
        counts[first.why] = len(stems)
        rows = rows[len(first.stems) :]
    kept = []
    for row in rows:
        try:
            why = _why_dropped(variant, row.fields)
        except _MisfitError as misfit:
            why, row = "", replace(row, problem=row.problem or str(misfit))
        if why:
            counts[why] += 1
        else:
            kept.append(row)
    return kept, [f"{count} label rows left out: {why}" for why, count in counts.items()]


def _why_dropped(variant: Description, fields: Fields) -> str:
    for drop in variant.drop:
        if _value(fields, drop.field) in drop.equals:
            return drop.why
    if variant.drop_outside_range and variant.range and _outside(_value(fields, variant.score), variant.range):
        return f"a score outside {variant.range[0]:g}..{variant.range[1]:g}"
    return ""


def _outside(score: str, scale: tuple[float, float]) -> bool:
    try:
        return not scale[0] <= float(score) <= scale[1]
    except ValueError:
        return False  # what is no number is an error of its own


def _part_lists(variant: Description, root: Location) -> dict[Part, frozenset[str]]:
    """Part -> its images; empty where one of the tables is not there."""
    lists: dict[Part, frozenset[str]] = {}
    for part, source in variant.part_files.items():
        files = matching_files(root, source.file)
        if not files:
            return {}
        columns = [source.image, *([source.where] if source.where else [])]
        rows = open_table(files[0], needed=columns).rows(columns)
        yes = ("true", "1", "yes")
        lists[part] = frozenset(
            _text(values[0]) for _, values in rows if len(values) < 2 or _text(values[1]).lower() in yes
        )
    return lists


def _notes_on_parts(
    variant: Description, root: Location, parts: Mapping[Part, frozenset[str]], images: set[str]
) -> list[str]:
    """Lines on names of the official split that no label row has. InputError where a list has no other ones."""
    notes = []
    for part, listed in parts.items():
        absent = sorted(listed - images)
        file = variant.part_files[part].file
        if absent and len(absent) == len(listed):
            raise InputError(
                f"{root.uri}: none of the {len(listed)} images of {file} has a label row; it has names such as "
                f"{absent[0]!r}, the label rows such as {min(images, default='')!r}"
            )
        if absent:
            notes.append(f"{len(absent)} of the {len(listed)} images of {file} have no label row, such as {absent[0]}")
    return notes


@dataclass(frozen=True)
class _RowReader:
    name: str
    variant: Description
    root: Location
    images: Images
    part_lists: Mapping[Part, frozenset[str]]

    def row(self, entry: _Entry, score: object) -> LabelRow:
        """A label row; what does not fit the description is its `problem`."""
        try:
            if entry.problem:
                raise _MisfitError(entry.problem)
            _value(entry.fields, self.variant.score)
            path = self.images.find(entry.image)
            reference, part = self._reference(entry.fields, path), self._part(entry)
            return self._with_distortion(LabelRow(entry.where, path, score, reference, part=part), entry.fields)
        except _MisfitError as misfit:
            return LabelRow(entry.where, self.root.uri, score, "", problem=str(misfit))

    def _reference(self, fields: Fields, path: str) -> str:
        if self.variant.reference is None:
            return relative(path, self.root.uri)
        reference = _render(self.variant.reference, fields)
        if not reference:
            raise _MisfitError("the reference is empty")
        return f"{self.name}/{reference.upper() if self.variant.reference_upper else reference}"

    def _part(self, entry: _Entry) -> Part | None:
        if self.variant.part is not None:
            value = _render(self.variant.part, entry.fields)
            return _chosen(self.variant.parts, value, self.variant.part) if self.variant.parts else _as_part(value)
        if self.part_lists:
            return next((name for name, images in self.part_lists.items() if entry.image in images), "train")
        return entry.part

    def _with_distortion(self, row: LabelRow, fields: Fields) -> LabelRow:
        level, distortion = None, None
        if self.variant.distortion is not None:
            value = _render(self.variant.distortion, fields)
            named = {key.lower(): name for key, name in self.variant.distortions.items()}
            distortion = _chosen(named, value.lower(), self.variant.distortion) if named else value
        if self.variant.level is not None:
            text = _render(self.variant.level, fields)
            level = int(text) if text.isdecimal() else 0
            if not 1 <= level <= 5:
                raise _MisfitError(f"the level is {text!r}; it must be 1 to 5")
        return replace(row, distortion=distortion, level=level)


class _MisfitError(Exception):
    """A row does not fit the description."""


def _chosen(values: Mapping[str, T], value: str, field: str) -> T:
    if value not in values:
        raise _MisfitError(f"{field} is {value!r}, expected one of {', '.join(values)}")
    return values[value]


def _as_part(value: str) -> Part:
    return _chosen({"train": "train", "validation": "validation", "test": "test"}, value, "part")


def _render(name: str, fields: Fields) -> str:
    if "{" not in name:
        return _value(fields, name)
    return _FIELD.sub(lambda match: _value(fields, match[1]), name)


def _value(fields: Fields, name: str) -> str:
    if name not in fields:
        raise _MisfitError(_without(name, fields))
    return _text(fields[name])


def _without(name: str, fields: Fields) -> str:
    return f"the row has no field {name!r}; its fields are {', '.join(fields)}"


def _text(value: object) -> str:
    """A cell as people read it: 1600.0 of a spreadsheet is 1600."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

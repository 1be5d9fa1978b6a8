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
    read, dropped = _without_dropped(variant, read)
    scores, comma = with_points([fields.get(variant.score) for _, fields, _ in read], variant.title)
    parts = _part_lists(variant, root)
    reader = _RowReader(name, variant, root, images, parts)
    rows = [reader.row(where, fields, score, part) for (where, fields, part), score in zip(read, scores, strict=True)]
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


def _read_rows(variant: Description, root: Location) -> tuple[list[tuple[str, Fields, Part | None]], list[str]]:
    """Where, fields and official part of every label row; and how the tables are written."""
    if variant.matlab:
        return [(where, fields, None) for where, fields in _read_matlab(variant, root)], []
    rows: list[tuple[str, Fields, Part | None]] = []
    notes: list[str] = []
    columns = sorted(_columns(variant))
    for table in variant.tables:
        for file in matching_files(root, table.file):
            opened = open_table(file, header=variant.columns, sheet=variant.sheet, needed=columns)
            notes += [note for note in opened.notes if not variant.sheet and not variant.columns]
            rows += [
                (where, dict(zip(columns, values, strict=True)), table.part) for where, values in opened.rows(columns)
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
    names = [variant.image, variant.reference, variant.distortion, variant.level, variant.part]
    used = {field for name in names if name for field in _fields_of(name)}
    used |= {variant.score, *variant.lookup, *(drop.field for drop in variant.drop)}
    found = (more for values in variant.lookup.values() for more in values.values())
    made = {"stem", *(field for fields in found for field in fields)}
    made |= set(re.compile(variant.pattern).groupindex) if variant.pattern else set()
    return used - made


def _fields_of(name: str) -> list[str]:
    return _FIELD.findall(name) if "{" in name else [name]


def _without_dropped(
    variant: Description, rows: list[tuple[str, Fields, Part | None]]
) -> tuple[list[tuple[str, Fields, Part | None]], list[str]]:
    counts: Counter[str] = Counter()
    first = variant.first_rows
    if first is not None:
        stems = [os.path.splitext(_render(variant.image, fields))[0] for _, fields, _ in rows[: len(first.stems)]]
        if stems != list(first.stems):
            raise InputError(
                f"{rows[0][0] if rows else variant.title}: expected {', '.join(first.stems)} first ({first.why}), "
                f"found {', '.join(stems) or 'no rows'}"
            )
        counts[first.why] = len(stems)
        rows = rows[len(first.stems) :]
    kept = []
    for where, fields, part in rows:
        why = next((drop.why for drop in variant.drop if _text(fields[drop.field]) in drop.equals), "")
        if not why and variant.drop_outside_range and variant.range and _outside(fields[variant.score], variant.range):
            why = f"a score outside {variant.range[0]:g}..{variant.range[1]:g}"
        if why:
            counts[why] += 1
        else:
            kept.append((where, fields, part))
    return kept, [f"{count} label rows left out: {why}" for why, count in counts.items()]


def _outside(score: object, scale: tuple[float, float]) -> bool:
    try:
        return not scale[0] <= float(_text(score)) <= scale[1]
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


@dataclass(frozen=True)
class _RowReader:
    name: str
    variant: Description
    root: Location
    images: Images
    part_lists: Mapping[Part, frozenset[str]]

    def row(self, where: str, fields: Fields, score: object, part: Part | None) -> LabelRow:
        """A label row; what does not fit the description is its `problem`."""
        table = self.root.uri
        try:
            fields = self._with_lookups(fields)
            image = _render(self.variant.image, fields)
            if not image or image.endswith("/"):
                return LabelRow(where, table, score, "", problem=f"the image name is {image!r}; it must be a path")
            fields |= {"stem": os.path.splitext(os.path.basename(image))[0]} | self._groups(image)
            path = self.images.find(image)
            row = LabelRow(where, path, score, self._reference(fields, path), part=self._part(fields, image, part))
            return self._with_distortion(row, fields)
        except _MisfitError as misfit:
            return LabelRow(where, table, score, "", problem=str(misfit))

    def _with_lookups(self, fields: Fields) -> Fields:
        more: Fields = {}
        for field, values in self.variant.lookup.items():
            more |= _chosen(values, _text(fields[field]), field)
        return {**fields, **more}

    def _groups(self, image: str) -> dict[str, str]:
        if self.variant.pattern is None:
            return {}
        match = re.fullmatch(self.variant.pattern, image)
        if match is None:
            raise _MisfitError(f"{image!r} is not a file name of {self.variant.title}")
        return match.groupdict()

    def _reference(self, fields: Fields, path: str) -> str:
        if self.variant.reference is None:
            return relative(path, self.root.uri)
        reference = _render(self.variant.reference, fields)
        if not reference:
            raise _MisfitError("the reference is empty")
        return f"{self.name}/{reference.upper() if self.variant.reference_upper else reference}"

    def _part(self, fields: Fields, image: str, part: Part | None) -> Part | None:
        if self.variant.part is not None:
            value = _render(self.variant.part, fields)
            return _chosen(self.variant.parts, value, self.variant.part) if self.variant.parts else _as_part(value)
        if self.part_lists:
            return next((name for name, images in self.part_lists.items() if image in images), "train")
        return part

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


def _render(name: str, fields: Mapping[str, object]) -> str:
    if "{" not in name:
        return _text(fields[name])
    return _FIELD.sub(lambda match: _text(fields[match[1]]), name)


def _text(value: object) -> str:
    """A cell as people read it: 1600.0 of a spreadsheet is 1600."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

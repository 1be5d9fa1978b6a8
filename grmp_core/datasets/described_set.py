"""Reads a labelled set as its `Description` says, from where it was downloaded to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from grmp_core.datasets.description import Description, Part
from grmp_core.datasets.labelled_set import LabelledSet, LabelRow, build, relative
from grmp_core.datasets.matlab import read_variable
from grmp_core.datasets.set_layout import Images, check_some_images, find_set, matching_files
from grmp_core.datasets.set_rows import (
    Entry,
    Fields,
    MisfitError,
    chosen,
    entry_of,
    needed_columns,
    render,
    text_of,
    value_of,
)
from grmp_core.datasets.tables import open_table, with_points
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate


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
    notes += _notes_on_parts(variant, root, parts, {entry.image for entry in read if entry.image})
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


def _read_rows(variant: Description, root: Location) -> tuple[list[Entry], list[str]]:
    """Every label row; and how the tables are written."""
    if variant.matlab:
        return [entry_of(variant, where, fields) for where, fields in _read_matlab(variant, root)], []
    rows: list[Entry] = []
    notes: list[str] = []
    columns = sorted(needed_columns(variant))
    for table in variant.tables:
        for file in matching_files(root, table.file):
            opened = open_table(file, header=variant.columns, sheet=variant.sheet, needed=columns)
            notes += [note for note in opened.notes if not variant.sheet and not variant.columns]
            rows += [
                entry_of(variant, where, dict(zip(columns, values, strict=True)), table.part)
                for where, values in opened.rows(columns)
            ]
    return rows, notes


def _read_matlab(variant: Description, root: Location) -> Iterator[tuple[str, Fields]]:
    columns = {}
    for column, place in variant.matlab.items():
        file, _, variable = place.rpartition(":")
        columns[column] = read_variable(root / file, variable)
    absent = needed_columns(variant) - {*columns, *(("folder", "number") if variant.numbered else ())}
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


def _without_dropped(variant: Description, rows: list[Entry]) -> tuple[list[Entry], list[str]]:
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
        except MisfitError as misfit:
            why, row = "", replace(row, problem=row.problem or str(misfit))
        if why:
            counts[why] += 1
        else:
            kept.append(row)
    return kept, [f"{count} label rows left out: {why}" for why, count in counts.items()]


def _why_dropped(variant: Description, fields: Fields) -> str:
    for drop in variant.drop:
        if value_of(fields, drop.field) in drop.equals:
            return drop.why
    if variant.drop_outside_range and variant.range and _outside(value_of(fields, variant.score), variant.range):
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
            text_of(values[0]) for _, values in rows if len(values) < 2 or text_of(values[1]).lower() in yes
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

    def row(self, entry: Entry, score: object) -> LabelRow:
        """A label row; what does not fit the description is its `problem`."""
        try:
            if entry.problem:
                raise MisfitError(entry.problem)
            value_of(entry.fields, self.variant.score)
            path = self.images.find(entry.image)
            reference, part = self._reference(entry.fields, path), self._part(entry)
            return self._with_distortion(LabelRow(entry.where, path, score, reference, part=part), entry.fields)
        except MisfitError as misfit:
            return LabelRow(entry.where, self.root.uri, score, "", problem=str(misfit))

    def _reference(self, fields: Fields, path: str) -> str:
        if self.variant.reference is None:
            return relative(path, self.root.uri)
        reference = render(self.variant.reference, fields)
        if not reference:
            raise MisfitError("the reference is empty")
        return f"{self.name}/{reference.upper() if self.variant.reference_upper else reference}"

    def _part(self, entry: Entry) -> Part | None:
        if self.variant.part is not None:
            value = render(self.variant.part, entry.fields)
            return chosen(self.variant.parts, value, self.variant.part) if self.variant.parts else _as_part(value)
        if self.part_lists:
            return next((name for name, images in self.part_lists.items() if entry.image in images), "train")
        return entry.part

    def _with_distortion(self, row: LabelRow, fields: Fields) -> LabelRow:
        level, distortion = None, None
        if self.variant.distortion is not None:
            value = render(self.variant.distortion, fields)
            named = {key.lower(): name for key, name in self.variant.distortions.items()}
            distortion = chosen(named, value.lower(), self.variant.distortion) if named else value
        if self.variant.level is not None:
            text = render(self.variant.level, fields)
            level = int(text) if text.isdecimal() else 0
            if not 1 <= level <= 5:
                raise MisfitError(f"the level is {text!r}; it must be 1 to 5")
        return replace(row, distortion=distortion, level=level)


def _as_part(value: str) -> Part:
    return chosen({"train": "train", "validation": "validation", "test": "test"}, value, "part")

"""Layout of a labelled set on disk, as data: one YAML file a set, for the published ones in `sets/`.

A text with `{…}` is made of a row's fields; one without is the name of a field. The fields of a row are the columns of
the table, what `lookup` and `numbered` add to them, and of the image's name `stem` (without folder and ending) and the
named groups of `pattern`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from annotated_types import MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from grmp_core.errors import InputError
from grmp_core.settings import Settings

Part = Literal["train", "validation", "test"]
"""Of an official split."""


@dataclass(frozen=True, kw_only=True)
class TableFile(Settings):
    """A label table of a set."""

    file: Annotated[str, MinLen(1)]
    """Its place below the set's folder; with `*` or `[…]` all files that match."""
    part: Part | None = None
    """Official part that all of its rows belong to."""
    optional: bool = False
    """The set is complete without it."""


@dataclass(frozen=True, kw_only=True)
class NamesFile(Settings):
    """A table whose images are one part of the official split."""

    file: str
    image: str
    """Its column with the names, as `image` of the description makes them."""
    where: str | None = None
    """Its column that must be true; null: all rows count."""


@dataclass(frozen=True, kw_only=True)
class Drop(Settings):
    """Rows that are left out as the set's authors mean it, and counted."""

    field: str
    equals: tuple[str, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class FirstRows(Settings):
    """Rows at the beginning that are not part of the set."""

    stems: tuple[str, ...]
    """The names that they must have, without ending."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Description(Settings):
    """One labelled set, or one of the ways in which it is published."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    title: str
    """Its name for people."""
    folders: tuple[str, ...] = ()
    """Names of the download's own folder: the folder above it may be given, too."""
    tables: tuple[TableFile, ...] = ()
    """Label tables, read one after the other."""
    columns: tuple[str, ...] = ()
    """Names of the columns of a text table without a line of names."""
    sheet: str | None = None
    """Sheet of an Excel table; null: the first with the columns that are needed."""
    matlab: Mapping[str, str] = field(default_factory=dict)
    """Column -> `file.mat:variable`, in the place of `tables`."""
    numbered: Mapping[str, int] = field(default_factory=dict)
    """Folder -> rows, in the order of the labels: gives each row the fields `folder` and `number`, from 1."""
    lookup: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    """Field -> its value -> further fields."""
    first_rows: FirstRows | None = None
    drop: tuple[Drop, ...] = ()
    drop_outside_range: bool = False
    """Leave out, and count, rows with a score outside `range`; false: such a row is an error."""
    image: str = "image"
    """Name of the image, relative to `images`."""
    images: tuple[str, ...] = (".",)
    """Folders of images: the first that is there; with `*` or `[…]` all that match are searched."""
    match: Literal["ending", "case", "format"] = "ending"
    """Names that stand for a file: with an ending in another case; in another case throughout; of another format."""
    pattern: str | None = None
    """Regular expression of the image's name; its named groups become fields. A name that does not fit is an error."""
    score: str = "mos"
    """Field with the human score."""
    range: tuple[float, float] | None = None
    """Smallest and largest score of the scale; null: of those that occur."""
    higher_is_better: bool = True
    reference: str | None = None
    """Name of the pristine original or scene: images of one stay together in every split. null: each is its own."""
    reference_upper: bool = False
    """References are the same whatever their case."""
    distortion: str | None = None
    distortions: Mapping[str, str] = field(default_factory=dict)
    """Value of `distortion` -> its name in `grmp_core.distortions` where that has it."""
    level: str | None = None
    """Strength of the distortion, 1 to 5."""
    part: str | None = None
    """Field with the part of the official split."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Value of `part` -> the part."""
    part_files: Mapping[Part, NamesFile] = field(default_factory=dict)
    """Part -> the table that lists its images; all others are for training."""
    references: str | None = None
    """Folder of the pristine originals, which `grmp synthesize` can distort."""
    count: int | None = None
    """Images of the release."""
    note: str = ""
    """A line to know before using the scores."""
    alternatives: tuple[Mapping[str, Any], ...] = ()
    """Ways in which the set is published: settings in the place of those above. The first that is there is read."""

    def variants(self) -> tuple[Description, ...]:
        """The description with each of its alternatives in its place; itself where there are none."""
        if not self.alternatives:
            return (self,)
        common = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "alternatives"}
        return tuple(_description({**common, **alternative}, self.title) for alternative in self.alternatives)


@functools.cache
def published() -> dict[str, Path]:
    """Name -> file of the descriptions that this package brings."""
    folder = resources.files("grmp_core.datasets") / "sets"
    files = sorted(Path(str(file)) for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.stem: file for file in files}


def is_description(name: str) -> bool:
    """Whether the name of a data set is a description's file."""
    return name.lower().endswith((".yaml", ".yml"))


def read_description(file: str | os.PathLike[str]) -> Description:
    """A description. InputError for a file that is missing, not YAML, or has a key or value that it cannot have."""
    path = Path(file).expanduser()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such description of a data set") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(f"{path}{f', line {mark.line + 1}' if mark else ''}: not YAML") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold keys such as title, tables, image and score")
    described = _description({"title": path.stem, **content}, str(path))
    described.variants()  # an alternative that is wrong shows here
    return described


_TUPLES = {"tables", "images", "folders", "columns", "drop"}


@functools.cache
def _adapter() -> TypeAdapter[Description]:
    return TypeAdapter(Description)


def _description(content: Mapping[str, Any], where: str) -> Description:
    content = {key: [value] if key in _TUPLES and not isinstance(value, list | tuple) else value
               for key, value in content.items()}  # fmt: skip
    if "tables" in content:
        content["tables"] = [{"file": table} if isinstance(table, str) else table for table in content["tables"]]
    try:
        described = _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        known = ", ".join(f.name for f in fields(Description)) if first["type"] == "unexpected_keyword_argument" else ""
        hint = f"; the keys are {known}" if known else ""
        raise InputError(f"{where}: {place}: {first['msg']}{hint}") from error
    if described.pattern is not None:
        try:
            re.compile(described.pattern)
        except re.error as error:
            raise InputError(f"{where}: pattern: not a regular expression: {error}") from error
    return described

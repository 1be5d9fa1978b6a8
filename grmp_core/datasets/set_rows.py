"""Label rows of a described set with all of their fields: of its tables, of `lookup`, and of the image's name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from grmp_core.datasets.description import Description, Part

Fields = dict[str, object]
_Lookup = Mapping[str, Mapping[str, Mapping[str, str]]]
T = TypeVar("T")
_FIELD = re.compile(r"\{([^{}]+)\}")


class MisfitError(Exception):
    """A row does not fit the description."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A label row with all of its fields; what does not fit the description is its `problem`."""

    where: str
    fields: Fields
    image: str
    """Its name, as `image` of the description makes it."""
    part: Part | None
    """That its table belongs to."""
    problem: str = ""


def entry_of(variant: Description, where: str, fields: Fields, part: Part | None = None) -> Entry:
    """A row of a table with the fields that `lookup` and `pattern` add; the image's name may need some of the first."""
    image, problem = "", ""
    try:
        fields, waiting = _looked_up(variant.lookup, fields)
        image = render(variant.image, fields)
        if not image or image.endswith("/"):
            raise MisfitError(f"the image name is {image!r}; it must be a path")
        fields |= {"stem": os.path.splitext(os.path.basename(image))[0]} | _groups(variant, image)
        fields, waiting = _looked_up(waiting, fields)
        if waiting:
            raise MisfitError(_without(next(iter(waiting)), fields))
    except MisfitError as misfit:
        problem = str(misfit)
    return Entry(where=where, fields=fields, image=image, part=part, problem=problem)


def _looked_up(lookup: _Lookup, fields: Fields) -> tuple[Fields, _Lookup]:
    """Fields with what they lead to; and those lookups whose own field is not there."""
    fields, waiting = dict(fields), {}
    for field, values in lookup.items():
        if field in fields:
            fields |= chosen(values, text_of(fields[field]), field)
        else:
            waiting[field] = values
    return fields, waiting


def _groups(variant: Description, image: str) -> dict[str, str]:
    if variant.pattern is None:
        return {}
    match = re.fullmatch(variant.pattern, image)
    if match is None:
        raise MisfitError(f"{image!r} is not a file name of {variant.title}")
    return match.groupdict()


def needed_columns(variant: Description) -> set[str]:
    """Columns of the tables that a description needs."""
    names = [variant.reference, variant.distortion, variant.level, variant.part]
    used = {field for name in names if name for field in _fields_of(name)}
    used |= {variant.score, *variant.lookup, *(drop.field for drop in variant.drop)}
    found = {field for values in variant.lookup.values() for more in values.values() for field in more}
    of_image = {"stem", *(re.compile(variant.pattern).groupindex if variant.pattern else ())}
    return ({*_fields_of(variant.image)} | (used - of_image)) - found


def _fields_of(name: str) -> list[str]:
    return _FIELD.findall(name) if "{" in name else [name]


def chosen(values: Mapping[str, T], value: str, field: str) -> T:
    """The meaning of a field's value. MisfitError for a value without one."""
    if value not in values:
        raise MisfitError(f"{field} is {value!r}, expected one of {', '.join(values)}")
    return values[value]


def render(name: str, fields: Fields) -> str:
    """A field of this name, or a text with `{…}` made of fields. MisfitError for one that is not there."""
    if "{" not in name:
        return value_of(fields, name)
    return _FIELD.sub(lambda match: value_of(fields, match[1]), name)


def value_of(fields: Fields, name: str) -> str:
    """A field as text. MisfitError where it is not there."""
    if name not in fields:
        raise MisfitError(_without(name, fields))
    return text_of(fields[name])


def _without(name: str, fields: Fields) -> str:
    return f"the row has no field {name!r}; its fields are {', '.join(fields)}"


def text_of(value: object) -> str:
    """A cell as people read it: 1600.0 of a spreadsheet is 1600."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

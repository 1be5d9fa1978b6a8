"""The base of every configuration section, and what it reads from the types of its fields.

A range is written beside the type, as in `epochs: Annotated[int, Ge(1)] = 30`. The loader (`pipelines.configuration`),
the help of every command and the constructor of the section all read it there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator

from grmp_core.errors import InputError

_LONE_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED_BYTE = re.compile("\0([89a-f][0-9a-f])")


def escape_bytes(json_text: str) -> str:
    """JSON in which a byte of a file name that is not UTF-8 (`\\udc80` in Python, refused by pydantic's JSON parser) is
    NUL and two hex digits: no file name and no YAML text has a NUL."""
    return _LONE_BYTE.sub(lambda match: f"\\u0000{ord(match[0]) - 0xDC00:02x}", json_text)


def _read_path(text: str) -> str:
    """Undo `escape_bytes`, and put the home folder in the place of a leading `~` or `~user`."""
    return os.path.expanduser(_ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), text))


PathText = Annotated[str, AfterValidator(_read_path)]
"""A path, glob or URI of the configuration. `~` becomes the home folder, once, where the configuration is loaded."""
Share = Annotated[float, Ge(0), Le(1)]
Text = Annotated[str, MinLen(1)]
"""Text that is not empty."""


class Settings:
    """Base class of a section (a frozen dataclass). Its constructor raises InputError for a value out of range.

    A section with checks across fields calls `super().__post_init__()` first. Every number must be finite.
    """

    def __post_init__(self) -> None:
        section: type = type(self)
        for name, hint in field_types(section).items():
            _check(getattr(self, name), hint, f"{section.__name__}.{name}")


@functools.cache
def field_types(section: type) -> dict[str, Any]:
    """Name -> type of the fields of a section, with the ranges, in their order."""
    hints = get_type_hints(section, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def without_null(hint: Any) -> Any:
    """`X | None` -> X; any other type as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def bare_type(hint: Any) -> tuple[Any, Sequence[Any]]:
    """The type of a field without `| None` and without its range, and the range: int, [Ge(1)]."""
    hint = without_null(hint)
    if get_origin(hint) is Annotated:
        bare, *constraints = get_args(hint)
        return bare, constraints
    return hint, ()


def allowed(hint: Any) -> str:
    """The values of a type in words, such as "a whole number, 1 or more"."""
    bare, constraints = bare_type(hint)
    origin, arguments = get_origin(bare), get_args(bare)
    if dataclasses.is_dataclass(bare) or dict in (bare, origin):
        words = "a section with keys"
    elif origin is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
    elif origin is tuple and Ellipsis in arguments:
        return f"a list{' of one or more' if constraints else ''}, each entry {allowed(arguments[0])}"
    elif origin is tuple:
        words = f"a list of {len(arguments)}, each entry {allowed(arguments[0])}"
    else:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(bare, "any value")
    return ", ".join([words, *filter(None, [_range(constraints)])])


def _range(constraints: Sequence[Any]) -> str:
    """As in "1 or more", "from 0 to 1", "above 0 and below 1"; empty where there is no range."""
    if [type(constraint) for constraint in constraints] == [Ge, Le]:
        return f"from {constraints[0].ge} to {constraints[1].le}"
    parts = []
    for constraint in constraints:
        match constraint:
            case Ge(ge=bound):
                parts.append(f"{bound} or more")
            case Gt(gt=bound):
                parts.append(f"above {bound}")
            case Le(le=bound):
                parts.append(f"at most {bound}")
            case Lt(lt=bound):
                parts.append(f"below {bound}")
            case MinLen(min_length=1):
                parts.append("at least one character")
    return " and ".join(parts)


def _check(value: Any, hint: Any, where: str) -> None:
    """InputError for a value out of the range of its type. Types themselves are left to the loader and to mypy."""
    if value is None:
        return
    bare, constraints = bare_type(hint)
    origin, arguments = get_origin(bare), get_args(bare)
    fits = value in arguments if origin is Literal else True
    if isinstance(value, float):
        fits = math.isfinite(value)
    elif isinstance(value, str):
        fits = fits and "\0" not in value  # `escape_bytes` where no path is
    if not fits or not all(_holds(constraint, value) for constraint in constraints):
        raise InputError(f"{where} must be {allowed(hint)}, not {value!r}")
    if origin is tuple:
        for i, entry in enumerate(value):
            _check(entry, arguments[0], f"{where}[{i}]")


def _holds(constraint: Any, value: Any) -> bool:
    match constraint:
        case Ge(ge=bound):
            return bool(value >= bound)
        case Gt(gt=bound):
            return bool(value > bound)
        case Le(le=bound):
            return bool(value <= bound)
        case Lt(lt=bound):
            return bool(value < bound)
        case MinLen(min_length=length):
            return len(value) >= length
    return True

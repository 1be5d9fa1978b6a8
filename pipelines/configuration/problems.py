"""One line for what is wrong with a configuration: where, what it must be, what was given, how to fix it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from grmp_core.errors import InputError
from grmp_core.settings import allowed, bare_type, field_types
from pipelines.configuration.schema import Config

MOVED = {
    "evaluate": "section `ablate`, for the command `grmp ablate`: write ablate.pretrained",
    "synthesize.preview": "a command: `grmp preview FILE`, or preview.output",
    "synthesize.preview_image": "preview.image, for the command `grmp preview`",
    "target.max_rejects": "target.max_reject_fraction, which counts missing images, too",
    "target.max_missing_fraction": "target.max_reject_fraction, which counts unusable scores and images, too",
}
"""Keys of earlier versions, and where to find them now."""


def entry_type(hint: Any, key: str | int) -> Any:
    """Type of one field of a section, one entry of a list, or one value of a free section; Any where there is none."""
    bare, _ = bare_type(hint)
    if isinstance(bare, type) and dataclasses.is_dataclass(bare):
        return field_types(bare).get(str(key), Any)
    origin, arguments = get_origin(bare), get_args(bare)
    return arguments[1] if origin is dict else arguments[0] if origin is tuple else Any


def type_at(location: Sequence[str | int]) -> Any:
    """Type of the setting at a location such as (sweep, shots, 0); Any where there is none."""
    hint: Any = Config
    for key in location:
        hint = entry_type(hint, key)
    return hint


def check_keys(data: Mapping[str, Any], section: type, where: str = "") -> None:
    """InputError for a key that no section has, with the nearest one or where it is now."""
    types = field_types(section)
    for key, value in data.items():
        name = f"{where}{key}"
        if name in MOVED:
            raise InputError(f"configuration: {name} is now {MOVED[name]}")
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1, cutoff=0.5)
            hint = f"did you mean {where}{near[0]}?" if near else f"the keys here are {', '.join(sorted(types))}"
            raise InputError(f"configuration: {name} is unknown; {hint}")
        if isinstance(value, Mapping) and dataclasses.is_dataclass(types[key]):
            check_keys(value, types[key], f"{name}.")


def problem_of(error: ValidationError) -> str:
    """The first of pydantic's errors in the words of this package, and how many more there are."""
    first, *others = error.errors(include_url=False)
    more = len({problem["loc"] for problem in others if problem["type"] != "too_short"})  # for want of good entries
    return f"{_line(first)} (and {more} more)" if more else _line(first)


def _line(error: ErrorDetails) -> str:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InputError):  # of a check across fields, which says where by itself
        return str(cause)
    location: tuple[str | int, ...] = error["loc"]
    if error["type"] == "missing":  # an entry of a list whose length is fixed
        location = location[:-1]
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).removeprefix(".")
    hint, value = type_at(location), error["input"]
    line = f"configuration: {where or 'it'} must be {allowed(hint)}, not {_shown(value)}"
    if error["type"] == "tuple_type" and isinstance(value, str | int | float):
        return f"{line}; write [{value}]"
    if error["type"] in ("int_type", "float_type") and isinstance(value, str) and re.search("[0-9]", value):
        return f"{line}; write plain digits, without a leading zero, '_' or ':'"
    return line


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)

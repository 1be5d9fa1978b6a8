"""From YAML and `--set key=value` to a checked `Config`."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from grmp_core.errors import InputError
from pipelines.configuration.schema import Config

MOVED = {
    "evaluate": "section `ablate`, for the command `grmp ablate`: write ablate.pretrained",
    "synthesize.preview": "a command: `grmp preview FILE`, or preview.output",
    "synthesize.preview_image": "preview.image, for the command `grmp preview`",
}
"""Keys of earlier versions, and where to find them now."""


def load_config(path: str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `section.key=value` overrides on top (values are YAML, too).

    Overriding `sweep.shots` puts the `sweep.ratios` of the file aside, and the other way round. Raises InputError for a
    missing or unreadable file, an unknown key (naming the nearest one), a value of the wrong type or out of range.
    """
    data = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(data, override)
    _give_way(data, {override.partition("=")[0] for override in overrides})
    return build(Config, data, "")


def as_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON types; `build(Config, as_dict(c), "")` gives `c` again."""
    return _plain(dataclasses.asdict(config))


def build(cls: type, data: object, where: str) -> Any:
    """A dataclass `cls` from a mapping; `where` is its dotted place, for messages."""
    if not isinstance(data, Mapping):
        raise InputError(f"configuration: {where or 'the file'} must be a section with keys, not {_describe(data)}")
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    for key in data:
        if (moved := MOVED.get(_join(where, str(key)))) is not None:
            raise InputError(f"configuration: {_join(where, str(key))} is now {moved}")
        if key not in known:
            raise InputError(_unknown_key(str(key), where, known))
    return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in data.items()})


def _convert(hint: Any, value: object, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), {} if value is None else value, where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"configuration: {where} must be one of {', '.join(arguments)}, not {_describe(value)}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError(f"configuration: {where} must be {_NAMES.get(hint, hint.__name__)}, not {_describe(value)}")
    return value


def _convert_tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"configuration: {where} must be a list, not {_describe(value)}")
    if Ellipsis not in arguments and len(value) != len(arguments):
        raise InputError(f"configuration: {where} must have {len(arguments)} entries, not {len(value)}")
    return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a section with keys"}


def _describe(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


def _unknown_key(key: str, where: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {_join(where, near[0])}?" if near else f"known here: {', '.join(sorted(known))}"
    return f"configuration: {_join(where, key)} is unknown; {hint}"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"configuration file {path} does not exist; give another --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"configuration file {path} cannot be read ({error}); check its path and rights") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(f"configuration file {path}{place}: {problem}; correct the YAML there") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"configuration file {path} must hold sections with keys, not {_describe(content)}")
    return content


def _apply(data: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise InputError(f"--set {override}: write section.key=value")
    *sections, key = path.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}: '{section}' is a value, not a section")
        data = inner
    try:
        data[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not YAML; quote it") from error


def _give_way(data: dict[str, Any], overridden: set[str]) -> None:
    """Two keys say the same thing in two ways: the file's gives way where only the other is overridden."""
    for key, other in (("shots", "ratios"), ("ratios", "shots")):
        if f"sweep.{key}" in overridden and f"sweep.{other}" not in overridden:
            data["sweep"].pop(other, None)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


LAMBDA = "adapt.qgr.strength"


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with some of its keys set. Where lambda is one of them, it is the only one of the sweep."""
    data = as_dict(config)
    for key, value in settings.items():
        *sections, name = key.split(".")
        part = data
        for section in sections:
            part = part[section]
        part[name] = value
    settled: Config = build(Config, data, "")
    if LAMBDA not in settings:
        return settled
    lambdas = (settled.adapt.qgr.strength,)
    return dataclasses.replace(settled, sweep=dataclasses.replace(settled.sweep, lambdas=lambdas))

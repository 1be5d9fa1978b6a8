"""From YAML and `--set key=value` to a checked `Config`.

Later layers win: built-in defaults, the preset of the backbone, the file, `--set` from left to right, then a command's
own arguments. `yaml_reading` has the rules of YAML. In a setting that holds text, an unquoted number or truth value is
taken as it is written, and `--set` takes all that follows the first `=`, quotes and `#` included.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from grmp_core.errors import InputError
from grmp_core.settings import bare_type, escape_bytes, without_null
from pipelines.configuration.backbone_presets import resolve_preset
from pipelines.configuration.problems import check_keys, entry_type, problem_of, type_at
from pipelines.configuration.schema import Config
from pipelines.configuration.yaml_reading import Scalar, parse_value, read_yaml

LAMBDA = "adapt.qgr.strength"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load_config(
    path: str | None,
    overrides: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] = _to_stderr,
) -> Config:
    """The configuration of a run. Its `preset` is the name of the one that was taken, or `none`.

    Overriding `sweep.shots` puts the `sweep.ratios` of the file aside, and the other way round.

    Args:
        path: YAML file; null: none.
        overrides: `section.key=value`, as `--set` has them.
        arguments: dotted key -> value of a command's own arguments, of JSON types.
        say: called with one line where a backbone has no preset.

    Raises:
        InputError: missing or unreadable file, an unknown key (it names the nearest one), a value of the wrong type or
            out of range, settings that contradict one another.
    """
    data = {} if path is None else _settled(read_yaml(Path(path)), Config)
    given = [*map(_parse_override, overrides), *(arguments or {}).items()]
    for key, value in given:
        _put(data, key, value)
    keys = {key for key, _ in given}
    for key, other in (("sweep.shots", "sweep.ratios"), ("sweep.ratios", "sweep.shots")):
        if key in keys and other not in keys:
            _section(data, "sweep", key).pop(other.removeprefix("sweep."), None)
    check_keys(data, Config)
    preset, settings = resolve_preset(data, say)
    return config_of(_merged(_settled(settings, Config), {**data, "preset": preset}))


def config_of(data: Mapping[str, Any]) -> Config:
    """The configuration from plain JSON types; what is left out has its built-in default.

    Raises InputError as `load_config`. `config_of(as_dict(config))` gives `config` again.
    """
    check_keys(data, Config)
    try:
        return _adapter().validate_json(escape_bytes(json.dumps(data, ensure_ascii=False)))
    except ValidationError as error:
        raise InputError(problem_of(error)) from error


def as_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON types."""
    return _plain(dataclasses.asdict(config))


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with some of its keys set, by dotted key. Where lambda (adapt.qgr.strength) is one of them, it
    is the only one of the sweep. Raises InputError as `load_config`."""
    data = as_dict(config)
    for key, value in settings.items():
        _put(data, key, value)
    settled = config_of(data)
    if LAMBDA not in settings:
        return settled
    lambdas = (settled.adapt.qgr.strength,)
    return dataclasses.replace(settled, sweep=dataclasses.replace(settled.sweep, lambdas=lambdas))


@functools.cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def _settled(data: Any, hint: Any) -> Any:
    """YAML's values as the types of their settings want them: text where that holds text, an empty section for null."""
    bare, _ = bare_type(hint)
    if isinstance(data, Scalar):
        return data.text if _holds_text(hint) else data.value
    if isinstance(data, dict):
        return {key: _settled(value, entry_type(hint, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [_settled(entry, entry_type(hint, i)) for i, entry in enumerate(data)]
    return {} if data is None and (dataclasses.is_dataclass(bare) or get_origin(bare) is dict) else data


def _holds_text(hint: Any) -> bool:
    bare, _ = bare_type(hint)
    return bare is str or (get_origin(bare) is Literal and isinstance(get_args(bare)[0], str))


def _parse_override(override: str) -> tuple[str, Any]:
    """`section.key=value` -> dotted key and value."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: write section.key=value")
    hint = type_at(_parts_of(key))
    if _holds_text(hint):
        may_be_null = without_null(hint) is not hint
        return key, None if may_be_null and text in ("", "null") else text
    try:
        return key, _settled(parse_value(text), hint)
    except ValueError as error:
        raise InputError(f"--set {override}: {error}") from error


def _parts_of(key: str) -> list[str]:
    """Sections and name of a dotted key. Keys of a free section may have dots: sweep.space.adapt.lr has three parts."""
    parts = key.split(".")
    for i in range(len(parts)):
        if get_origin(bare_type(type_at(parts[:i]))[0]) is dict:
            return [*parts[:i], ".".join(parts[i:])]
    return parts


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = _parts_of(key)
    for section in sections:
        data = _section(data, section, key)
    data[name] = value


def _section(data: dict[str, Any], name: str, key: str) -> dict[str, Any]:
    """The section `name`, empty where it is new. InputError, about a `key` below it, where a value is in its place."""
    section = data.setdefault(name, {})
    if not isinstance(section, dict):
        raise InputError(f"--set {key}: '{name}' is a value, not a section")
    return section


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of both, with the values of `above` where both have one."""
    sections = {key for key, value in below.items() if isinstance(value, dict) and isinstance(above.get(key), dict)}
    return {**below, **above, **{key: _merged(below[key], above[key]) for key in sections}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value

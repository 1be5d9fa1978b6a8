"""YAML of configuration files and of `--set`, by the rules of YAML 1.2's core schema.

Numbers are written plainly (10, -0.5, 1e-4, 0x1F, 0o17), truth values are true and false, nothing is null or `~`. All
else is text, also what PyYAML's own rules (YAML 1.1) take for a truth value, a number or a date: yes, no, on, off, 010,
3_5, 1:30, 2026-01-01. A key that is given twice in one section is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from grmp_core.errors import InputError

_TAG = "tag:yaml.org,2002:"
_DECIMAL = r"(?:0|[1-9][0-9]*)"
_PLAIN_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": rf"[-+]?{_DECIMAL}|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": rf"[-+]?(?:\.[0-9]+|{_DECIMAL}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}


@dataclass(frozen=True)
class Scalar:
    """An unquoted number or truth value with its text, which a setting that holds text takes instead."""

    value: bool | int | float
    text: str


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a file, with `Scalar` for unquoted numbers and truth values.

    Raises InputError: missing or unreadable file, not YAML, a key given twice, no sections. It names file and line.
    """
    try:
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        raise InputError(f"configuration file {path} does not exist; give another --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"configuration file {path} cannot be read ({error}); check its path and rights") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"configuration file {path}{line}: {_problem_of(error)}; correct the YAML there") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"configuration file {path} must hold sections with keys, such as 'sweep: {{shots: [25]}}'")
    return content


def parse_value(text: str) -> Any:
    """The value of a `--set`, with `Scalar` for an unquoted number or truth value. ValueError says what is wrong."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None and node.end_mark.index < len(text.rstrip()):
            raise ValueError("'#' begins a comment in YAML; quote the text that has it")
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(_problem_of(error)) from error


def _problem_of(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or "not YAML").split())


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own name and form; None stands for any first character
        None: [(_TAG + kind, re.compile(rf"(?:{form})\Z")) for kind, form in _PLAIN_SCALARS.items()]
    }

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be text", key_node.start_mark)
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in mapping:
                lines = f", in lines {first_line[key]} and {line}" if first_line[key] < line else ""
                problem = f"'{key}' is given twice{lines}; put what both say into one"
                raise ConstructorError(None, None, problem, key_node.start_mark)
            first_line[key] = line
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping

    def construct_plain(self, node: yaml.ScalarNode) -> Scalar | None:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if not re.fullmatch(_PLAIN_SCALARS[kind], text):  # `!!int 3_5`
            raise ConstructorError(None, None, f"{text!r} is not of the type !!{kind}", node.start_mark)
        if kind == "null":
            return None
        if kind == "bool":
            return Scalar(text.lower() == "true", text)
        return Scalar(int(text, 0) if kind == "int" else float(re.sub(r"\.(?=[a-zA-Z])", "", text)), text)

    def refuse(self, node: yaml.Node) -> None:
        raise ConstructorError(None, None, f"the tag {node.tag} is not supported", node.start_mark)


_Loader.yaml_constructors = {
    **{_TAG + kind: _Loader.construct_plain for kind in _PLAIN_SCALARS},
    _TAG + "str": _Loader.construct_scalar,
    _TAG + "seq": _Loader.construct_sequence,
    _TAG + "map": _Loader.construct_mapping,
    None: _Loader.refuse,
}

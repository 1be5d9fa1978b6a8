"""The settings of a section for `--help`: type, range, default and doc of every field, each read from its source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from grmp_core.settings import allowed, bare_type, field_types, without_null
from pipelines.configuration.loading import as_dict, load_config
from pipelines.configuration.schema import Config

_WIDTH = 110


@functools.cache
def field_docs(section: type) -> dict[str, str]:
    """Field -> the string that stands below it in the source, in one line; a section's own doc is under the empty name.

    Fields without one are left out.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(section)))
    [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    docs = {"": ast.get_docstring(definition) or ""}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            docs[field.target.id] = str(ast.literal_eval(below.value))
    return {name: " ".join(doc.split()) for name, doc in docs.items()}


def settings_help(sections: Sequence[str]) -> str:
    """The settings that all commands share, then those of `sections`, with the defaults of the embedded backbone."""
    lines = [
        "settings for --set section.key=value (all after the first = is the value) and for a --config file; ~ is the",
        "home folder in every path; a default in (brackets) is the one without a preset:",
    ]
    builtin, preset = as_dict(Config()), as_dict(load_config(None))
    shared = [name for name, hint in field_types(Config).items() if not dataclasses.is_dataclass(hint)]
    lines += _fields(Config, "", builtin, preset, only=shared)
    for name in ("backbone", *sections):
        lines += ["", *_section(field_types(Config)[name], name, builtin[name], preset[name])]
    return "\n".join(lines)


def _section(section: type, where: str, builtin: dict[str, Any], preset: dict[str, Any]) -> Iterator[str]:
    yield f"{where}: {field_docs(section)['']}"
    yield from _fields(section, f"{where}.", builtin, preset)


def _fields(
    section: type, where: str, builtin: dict[str, Any], preset: dict[str, Any], only: Sequence[str] = ()
) -> Iterator[str]:
    for name, hint in field_types(section).items():
        if only and name not in only:
            continue
        bare, _ = bare_type(hint)
        if isinstance(bare, type) and dataclasses.is_dataclass(bare):
            yield from _section(bare, f"{where}{name}", builtin[name], preset[name])
            continue
        null = "" if without_null(hint) is hint else ", or null"
        yield f"  {where}{name}: {allowed(hint)}{null}; default {_default(builtin[name], preset[name])}"
        yield from textwrap.wrap(field_docs(section)[name], _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _default(builtin: Any, preset: Any) -> str:
    """As YAML has it in one line: that of the preset first."""
    texts = [
        yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        for value in (preset, builtin)
    ]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} ({texts[1]})"

"""Identity of a result: the named settings and inputs that decide about it, kept as JSON beside it.

A result belongs to a run when no name differs between its record and the run. A setting that a record lacks counts as
its default: one that is added to the program later, with a default that changes nothing, leaves earlier results valid.
A record holds every value, also those at their default: a default that changes later is a difference.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text

VERSION = 1
_SHOWN = 5  # differences that a message names


@dataclass(frozen=True)
class Identity:
    """Settings and inputs by dotted name, as plain JSON types."""

    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """Of the settings that have one."""

    @classmethod
    def of(cls, parts: Mapping[str, object], without: Collection[str] = ()) -> Identity:
        """A dataclass among `parts` gives a setting a field, and so on downwards; anything else is one setting.

        Args:
            without: dotted names that decide nothing.
        """
        leaves = [leaf for name, part in parts.items() for leaf in _leaves(name, part, dataclasses.MISSING)]
        kept = [leaf for leaf in leaves if leaf[0] not in without]
        return cls(
            {name: _plain(value) for name, value, _ in kept},
            {name: _plain(default) for name, _, default in kept if default is not dataclasses.MISSING},
        )

    def extended(self, parts: Mapping[str, object]) -> Identity:
        """With further settings and inputs."""
        more = Identity.of(parts)
        return Identity({**self.settings, **more.settings}, {**self.defaults, **more.defaults})

    @property
    def digest(self) -> str:
        """16 hex digits for file names. Settings at their default take no part, so that a later one changes nothing;
        whether a file belongs to a run is for `matches` to say."""
        named = {k: v for k, v in self.settings.items() if k not in self.defaults or v != self.defaults[k]}
        return digest_of(VERSION, named)[:16]

    def record(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"version": VERSION, "settings": dict(self.settings)}

    def matches(self, record: object) -> bool:
        """Whether a result with this record belongs here; a record of another kind or version does not."""
        return isinstance(record, Mapping) and record.get("version") == VERSION and not self.changes_from(record)

    def changes_from(self, record: Mapping[str, Any]) -> list[str]:
        """The differences, one text each: `adapt.lr was 0.01 and is 0.02`."""
        before: Mapping[str, Any] = record["settings"]
        changes = []
        for name, value in self.settings.items():
            if name not in before and name not in self.defaults:
                changes.append(f"{name} was not recorded and is {_short(value)}")
            elif (old := before.get(name, self.defaults.get(name))) != value:
                changes.append(f"{name} was {_short(old)} and is {_short(value)}")
        removed = (name for name in before if name not in self.settings)
        return changes + [f"{name} was {_short(before[name])} and is no longer a setting" for name in removed]


def check_version(record: Mapping[str, Any], where: str) -> None:
    """InputError for the record of another version of the program."""
    if record.get("version") != VERSION or not isinstance(record.get("settings"), Mapping):
        raise InputError(
            f"{where} has identity format {record.get('version')}, this program reads {VERSION}; use the release that "
            "wrote it, or choose another output"
        )


def listed(changes: list[str]) -> str:
    """The first few of `changes` in one line."""
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return "; ".join(changes[:_SHOWN]) + more


def digest_of(*parts: object) -> str:
    """SHA-256 as hex, of bytes as they are and of everything else as canonical JSON."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json_text(part, sort_keys=True, separators=(",", ":")).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _leaves(name: str, value: object, default: object) -> Iterator[tuple[str, object, object]]:
    """(dotted name, value, default or MISSING) of every setting at or below `name`."""
    if not dataclasses.is_dataclass(value):
        yield name, value, default
        return
    for field in dataclasses.fields(value):
        inner = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if isinstance(default, type(value)):
            inner = getattr(default, field.name)
        yield from _leaves(f"{name}.{field.name}", getattr(value, field.name), inner)


def _plain(value: object) -> Any:
    """Tuples as lists and the like, as a JSON file gives them back."""
    return json.loads(json_text(value))


def _short(value: object) -> str:
    text = json_text(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."

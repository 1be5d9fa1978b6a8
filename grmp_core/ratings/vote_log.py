"""The vote log: every vote and every undo is one line of JSON, appended and never changed.

A line has `entry` (`vote` or `undo`), `id`, `time` (UTC, ISO 8601) and `rater`. A vote has `kind`, `images` (paths as
seen from the rated folder), `image_ids` (`imaging.decoding.image_id` of each), `value` and `repeat`; an undo has
`undoes`, the id of a vote.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from grmp_core.errors import InputError
from grmp_core.strict_json import json_text

LOG_NAME = "votes.jsonl"
"""Name of the log in the rated folder."""
WORST_GRADE, BEST_GRADE = 1, 5
"""Ends of the scale of absolute category rating (ITU-R BT.500: bad, poor, fair, good, excellent)."""
PAIR_VALUES = ("left", "same", "right")
"""Answers to a pair: which image is better."""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One answer of one rater. Its constructor raises InputError for a value that the kind does not have."""

    id: str
    rater: str
    time: str
    kind: Literal["grade", "pair"]
    images: tuple[str, ...]
    """One image for a grade; left and right for a pair."""
    image_ids: tuple[str | None, ...]
    value: float | str
    """A grade from 1 to 5, or one of `PAIR_VALUES`."""
    repeat: bool = False
    """Whether this rater had answered the same before: such a vote measures consistency and is no label."""

    def __post_init__(self) -> None:
        if self.kind not in ("grade", "pair"):
            raise InputError(f"vote {self.id}: kind {self.kind!r} must be grade or pair")
        if len(self.images) != (1 if self.kind == "grade" else 2) or len(set(self.images)) != len(self.images):
            raise InputError(f"vote {self.id}: a grade has one image, a pair two different ones")
        if self.kind == "pair" and self.value not in PAIR_VALUES:
            raise InputError(f"vote {self.id}: {self.value!r} must be one of {', '.join(PAIR_VALUES)}")
        if self.kind == "grade" and not _is_grade(self.value):
            raise InputError(f"vote {self.id}: {self.value!r} is no grade from {WORST_GRADE} to {BEST_GRADE}")
        if not self.rater.strip():
            raise InputError(f"vote {self.id}: the rater has no name")

    def changed_images(self, ids: Mapping[str, str | None]) -> tuple[str, ...]:
        """Images whose files are others than those that were rated. `ids`: `image_id` of each present file by image;
        a file of which either id is not known counts as the same."""
        known = zip(self.images, self.image_ids, strict=True)
        return tuple(image for image, rated in known if None not in (rated, ids.get(image)) and rated != ids[image])


@dataclass(frozen=True, kw_only=True)
class Undo:
    """Takes one vote back."""

    id: str
    rater: str
    time: str
    undoes: str


@dataclass(frozen=True, kw_only=True)
class VoteHistory:
    """Content of a vote log."""

    entries: tuple[Vote | Undo, ...]
    notes: tuple[str, ...]
    """One line for everything that was left out."""
    size_bytes: int
    """Length of the log up to the end of its last whole line."""

    @property
    def votes(self) -> tuple[Vote, ...]:
        """Votes that nobody took back, in their order."""
        undone = {entry.undoes for entry in self.entries if isinstance(entry, Undo)}
        return tuple(entry for entry in self.entries if isinstance(entry, Vote) and entry.id not in undone)


def now() -> str:
    """The time as the log has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_log(path: str) -> VoteHistory:
    """Read a vote log; one that is not there is empty.

    A last line without its end is what a kill or a full disk in the middle of a write leaves: it was never confirmed
    to a rater, so it is left out, and a note says so. The second of two entries with one id is left out, too.

    Raises:
        InputError: any other line that is not an entry, or the file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    whole, newline, torn = data.rpartition(b"\n")
    lines = whole.split(b"\n") if newline else []
    entries: dict[str, Vote | Undo] = {}
    notes = []
    for number, line in enumerate(lines, start=1):
        entry = _to_entry(line, f"{path} line {number}")
        if entry.id in entries:
            notes.append(f"{path} line {number}: entry {entry.id} is there twice; the first one counts")
        entries.setdefault(entry.id, entry)
    if torn:
        notes.append(f"{path}: the last line is torn ({len(torn)} bytes) and left out; it was never confirmed")
    return VoteHistory(entries=tuple(entries.values()), notes=tuple(notes), size_bytes=len(data) - len(torn))


class VoteLog:
    """The log of one folder, open for one writer: a second one is refused while this process lives.

    `append` returns when the entry is on the disk.

    Raises:
        InputError: another process has the log, it cannot be written, or what `read_log` refuses.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"{path}: votes cannot be kept there: {error.strerror}; name a file that can") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            history = read_log(path)
            os.ftruncate(self._file, history.size_bytes)
            _sync_folder(os.path.dirname(os.path.abspath(path)))
        except BlockingIOError as error:
            os.close(self._file)
            raise InputError(f"{path}: another grmp rate has these votes open; use its page, or end it") from error
        except InputError:
            os.close(self._file)
            raise
        self._size = history.size_bytes
        self.history = history
        """As it was when the log was opened."""

    def append(self, entries: Sequence[Vote | Undo]) -> None:
        """Add entries. OSError when they are not on the disk; the log is then as it was before."""
        lines = [json_text({"entry": type(entry).__name__.lower(), **asdict(entry)}) for entry in entries]
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """End the hold on the log."""
        os.close(self._file)


def _sync_folder(folder: str) -> None:
    """Makes the name of a new file last through a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_grade(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and WORST_GRADE <= value <= BEST_GRADE


def _to_entry(line: bytes, where: str) -> Vote | Undo:
    try:
        fields = json.loads(line)
        kind = fields.pop("entry")
        if kind == "undo":
            return Undo(**fields)
        if kind != "vote":
            raise InputError(f"entry {kind!r} must be vote or undo")
        return Vote(**{**fields, "images": tuple(fields["images"]), "image_ids": tuple(fields["image_ids"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{where}: not an entry of a vote log ({error}); repair or delete the line") from error

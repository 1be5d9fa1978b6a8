"""The splits of a target: official, from a file, or drawn by reference, as `sweep.splits` has it."""

from __future__ import annotations

from grmp_core.datasets.labelled_set import LabelledSet, relative
from grmp_core.errors import InputError
from grmp_core.evaluation.split_tables import OFFICIAL, SplitTable, from_csv, shared_references
from grmp_core.storage import locate
from pipelines.configuration.sweeping import SweepConfig
from pipelines.runtime.console import say


def split_table(config: SweepConfig, target: LabelledSet) -> SplitTable:
    """One row an image of the target.

    Raises:
        InputError: no official split where one is asked for, no such file, or a file that does not fit the target.
    """
    drawn = SplitTable(reference_ids=tuple(target.reference_ids), test_fraction=config.test_fraction)
    if config.splits == "reference":
        return drawn
    if config.splits not in ("auto", OFFICIAL):
        return _with_given(drawn, _from_file(config.splits, target))
    parts = tuple(target.parts)
    if {"train", "test"} <= set(parts):
        say(
            f"splits: the official one of {target.name}: {parts.count('train')} to train, {parts.count('test')} to test"
        )
        return _with_given(drawn, {OFFICIAL: parts})
    if config.splits == OFFICIAL:
        raise InputError(
            f"sweep.splits official: {target.name} has no official split at hand; use reference, or a file"
        )
    return drawn


def _with_given(drawn: SplitTable, given: dict[str, tuple[str | None, ...]]) -> SplitTable:
    for name, parts in given.items():
        if shared := shared_references(parts, drawn.reference_ids):
            say(f"splits: {name} has {len(shared)} references on both sides, the first: {shared[0]}")
    return SplitTable(reference_ids=drawn.reference_ids, test_fraction=drawn.test_fraction, given=given)


def _from_file(path: str, target: LabelledSet) -> dict[str, tuple[str | None, ...]]:
    file = locate(path)
    try:
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"sweep.splits {path}: no such file; use auto, reference, official, or a split file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"sweep.splits {path}: cannot be read: {error}") from error
    given, notes = from_csv(text, [relative(name, target.root) for name in target.image_paths], file.name)
    for note in notes:
        say(f"splits: {note}")
    return given

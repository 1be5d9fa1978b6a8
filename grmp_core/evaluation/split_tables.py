"""Splits that are given instead of drawn: the official one of a published set, or those of a file that others use, too.

A split file is a CSV with a line per image: `image` (its path as seen from the set's folder) and a column per split,
each with `train`, `validation`, `test`, or nothing for an image that takes no part. `split_7` is the split of seed 7,
`official` the one that all seeds share.
"""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from grmp_core.errors import InputError
from grmp_core.evaluation.splits import Split, split

OFFICIAL = "official"
PARTS = ("train", "validation", "test")
Parts = tuple[str | None, ...]
"""Of every row: the part that it is in; null where it takes none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitTable:
    """The splits of a labelled set: drawn by reference, or given."""

    reference_ids: tuple[str, ...]
    """One a row, (N,)."""
    test_fraction: float = 0.2
    """Share of the references that a drawn split tests on."""
    given: Mapping[str, Parts] = field(default_factory=dict)
    """`official` or `split_<seed>` -> parts; empty: splits are drawn."""

    def split(self, seed: int) -> Split:
        """The split of a seed; an official one is the same for all of them.

        Raises:
            InputError: no split of that seed is given, a part is empty, or what `splits.split` refuses.
        """
        if not self.given:
            return split(self.reference_ids, seed, self.test_fraction)
        name = OFFICIAL if OFFICIAL in self.given else f"split_{seed}"
        if name not in self.given:
            raise InputError(f"split seed {seed}: no column {name}; there are {', '.join(self.given)}")
        parts = np.array(self.given[name], dtype=object)
        train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
        if not len(train) or not len(test):
            raise InputError(f"{name}: {len(train)} training and {len(test)} test images; both parts need some")
        return Split(train, test, seed)

    def take(self, rows: Sequence[int]) -> SplitTable:
        """The same splits of some of the rows, in that order."""
        given = {name: tuple(parts[row] for row in rows) for name, parts in self.given.items()}
        return replace(self, reference_ids=tuple(self.reference_ids[row] for row in rows), given=given)

    @property
    def takes_part(self) -> np.ndarray:
        """(N,) bool: rows that some split trains or tests on."""
        if not self.given:
            return np.ones(len(self.reference_ids), bool)
        used = np.array([[part in ("train", "test") for part in parts] for parts in self.given.values()])
        return np.logical_or.reduce(used, axis=0)

    @property
    def digest(self) -> str | None:
        """Names the given splits; null where they are drawn."""
        if not self.given:
            return None
        return hashlib.sha256(repr(sorted(self.given.items())).encode()).hexdigest()[:16]


def shared_references(parts: Parts, reference_ids: Sequence[str]) -> list[str]:
    """References with images both in the training and in the test part, sorted."""
    sides = [
        {ref for ref, part in zip(reference_ids, parts, strict=True) if part == side} for side in ("train", "test")
    ]
    return sorted(sides[0] & sides[1])


def to_csv(names: Sequence[str], given: Mapping[str, Parts]) -> str:
    """The text of a split file."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", *given])
    writer.writerows([name, *(part or "" for part in row)] for name, *row in zip(names, *given.values(), strict=True))
    return stream.getvalue()


def from_csv(text: str, names: Sequence[str], where: str) -> tuple[dict[str, Parts], list[str]]:
    """Parts of the named images by a split file, and what of the two does not fit together.

    Args:
        names: paths as seen from the set's folder, (N,). A file may have them in other folders, or bare, where
            the bare names are unique.
        where: the file's name, for messages.

    Raises:
        InputError: not a split file, an unknown part, an image twice, or none of the images in it.
    """
    rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")) if any(row)]
    header = rows[0] if rows else []
    splits = header[1:]
    if header[:1] != ["image"] or not splits or any(s != OFFICIAL and not s.startswith("split_") for s in splits):
        raise InputError(f"{where}: no split file; its columns must be image and split_0, split_1, … or official")
    parts_of: dict[str, list[str | None]] = {}
    for line, row in enumerate(rows[1:], start=2):
        wrong = next((part for part in row[1:] if part and part not in PARTS), None)
        if wrong is not None or len(row) != len(header):
            raise InputError(
                f"{where}: row {line} must have {len(header)} cells of {', '.join(PARTS)} or nothing: {row}"
            )
        if row[0] in parts_of:
            raise InputError(f"{where}: row {line}: the image {row[0]} is there twice")
        parts_of[row[0]] = [part or None for part in row[1:]]
    own, theirs = (Counter(map(posixpath.basename, some)) for some in (names, parts_of))
    of_bare = {posixpath.basename(name): name for name in parts_of}
    keys = []
    for name in names:
        bare = posixpath.basename(name)
        unique = own[bare] == theirs[bare] == 1
        keys.append(of_bare[bare] if unique and name not in parts_of else name)
    missing = sum(key not in parts_of for key in keys)
    if missing == len(names):
        raise InputError(
            f"{where}: none of its {len(parts_of)} images is in the set, such as {next(iter(parts_of), '')}"
        )
    notes = [f"{where}: {missing} images of the set are not in it and take no part"] if missing else []
    unknown = len(parts_of.keys() - set(keys))
    notes += [f"{where}: {unknown} of its images are not in the set"] if unknown else []
    nothing: list[str | None] = [None] * len(splits)
    columns = zip(*(parts_of.get(key, nothing) for key in keys), strict=True)
    return dict(zip(splits, map(tuple, columns), strict=True)), notes

"""The result of every loader: one Arrow table of images with human scores, in one direction and on one scale."""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa

from grmp_core.datasets.rejects import refuse_too_many
from grmp_core.errors import InputError
from grmp_core.score_range import ScoreRange
from grmp_core.storage import local_size_bytes

IMAGE_TABLE = pa.schema(
    [
        pa.field("image_path", pa.string(), nullable=False),
        pa.field("mos", pa.float64(), nullable=False),
        pa.field("quality", pa.float64(), nullable=False),
        pa.field("reference_id", pa.string(), nullable=False),
        pa.field("distortion", pa.string()),
        pa.field("level", pa.int8()),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("part", pa.string()),
        pa.field("weight", pa.float64()),
    ]
)
"""`image_path` is absolute; `mos` the source's own score; `quality` in [0, 1], 1 best; `level` 1..5; `part` of the
official split: train, validation or test; `weight` of a label in training, above 0, null for all or for none."""


_NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


@dataclass(frozen=True)
class Reject:
    """An input that was left out."""

    path: str
    """The image, or the label file where a row names none."""
    reason: str
    """The cause, with the line of the label file where there is one."""


@dataclass(frozen=True)
class LabelRow:
    """One row of a label file, before it is checked."""

    where: str
    """File and line, as a person would look for it."""
    image_path: str
    score: object
    reference_id: str
    distortion: str | None = None
    level: int | None = None
    part: str | None = None
    """Of the set's official split: train, validation or test."""
    weight: object = None
    """How much the label counts in training; null where the table has no weights."""
    problem: str = ""
    """Why the row cannot be used whatever its score, empty where it can; `image_path` may be the label file then."""


@dataclass
class LabelledSet:
    """Images with human scores."""

    table: pa.Table
    """Schema `IMAGE_TABLE`, in the order of the label file."""
    score_range: ScoreRange
    name: str
    """The loader's name, such as `livec`."""
    root: str
    """Absolute folder that `fingerprint` takes image paths relative to."""
    rejected: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Everything that was done differently from the plain reading of the files, one line each."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def image_paths(self) -> list[str]:
        """Absolute paths, (N,)."""
        return self.table["image_path"].to_pylist()

    @property
    def reference_ids(self) -> list[str]:
        """Reference ids, (N,), as `splits.split` takes them."""
        return self.table["reference_id"].to_pylist()

    @property
    def parts(self) -> list[str | None]:
        """Parts of the official split, (N,); null where the set has none."""
        return self.table["part"].to_pylist()

    @property
    def mos(self) -> np.ndarray:
        """Scores in the source's own scale, float64 (N,)."""
        return self.table["mos"].to_numpy()

    @property
    def quality(self) -> np.ndarray:
        """Quality in [0, 1], 1 best, float64 (N,)."""
        return self.table["quality"].to_numpy()

    @property
    def weights(self) -> np.ndarray | None:
        """Weights of the labels in training, float64 (N,); null where all count alike."""
        column = self.table["weight"]
        return None if column.null_count else column.to_numpy()

    def fingerprint(self) -> str:
        """sha256 (hex) over score range and rows, in their order, which shots are drawn by.

        Of a row: path relative to root, mos, reference, the size of the file (of an object store's none), the part of
        an official split, and the weight, where there are such.
        """
        weights = self.table["weight"].to_pylist()
        columns = (self.image_paths, self.mos.tolist(), self.reference_ids, self.parts, weights)
        rows = [
            f"{relative(path, self.root)}\t{mos!r}\t{reference}\t{local_size_bytes(path)}"
            + (f"\t{part}" if part else "")
            + ("" if weight is None else f"\tweight {weight!r}")
            for path, mos, reference, part, weight in zip(*columns, strict=True)
        ]
        scale = self.score_range
        head = f"{float(scale.mos_min)!r}\t{float(scale.mos_max)!r}\t{scale.higher_is_better}"
        return hashlib.sha256("\n".join([head, *rows]).encode()).hexdigest()


def build(
    name: str,
    root: str,
    rows: Sequence[LabelRow],
    score_range: ScoreRange | None,
    max_reject_fraction: float,
    *,
    higher_is_better: bool = True,
    notes: Iterable[str] = (),
    exists: Callable[[str], bool] = os.path.isfile,
) -> LabelledSet:
    """Check label rows and make the set of them; without a `score_range` the observed scores give one.

    Raises:
        InputError: no rows, an image rated in several rows, constant scores, or a larger share of rejected rows than
            `max_reject_fraction`; it names the first one's line.
    """
    if not rows:
        raise InputError(f"{root}: the labels have no rows")
    _refuse_several_raters(rows)
    usable, rejected = _sort_out(rows, score_range, exists)
    reasons = [f"{reject.reason} ({reject.path})" for reject in rejected]
    refuse_too_many(reasons, len(rows), max_reject_fraction, "label rows", "target.max_reject_fraction")
    scores = np.array([score for _, score in usable], dtype=np.float64)
    _refuse_constant(scores, root)
    notes = list(notes)
    if score_range is None:
        score_range = ScoreRange(
            mos_min=float(scores.min()), mos_max=float(scores.max()), higher_is_better=higher_is_better
        )
        notes.append(f"score range taken from the scores: {score_range.mos_min:g} to {score_range.mos_max:g}")
    table = _to_table([row for row, _ in usable], scores, score_range, name)
    return LabelledSet(table, score_range, name, root if "://" in root else os.path.abspath(root), rejected, notes)


def _refuse_several_raters(rows: Sequence[LabelRow]) -> None:
    """To take one of several scores would be a silent choice; which mean is right, the people who asked know."""
    rows_of: dict[str, list[LabelRow]] = {}
    for row in rows:
        if not row.problem:
            rows_of.setdefault(row.image_path, []).append(row)
    several = [same for same in rows_of.values() if len(same) > 1]
    if several:
        first = several[0]
        lines = ", ".join(row.where for row in first[:3]) + (", …" if len(first) > 3 else "")
        raise InputError(
            f"{len(several)} images are rated in several rows, the first, {first[0].image_path}, at {lines}; give one "
            "row an image: average its scores first, in pandas by "
            "table.groupby('image', as_index=False)['mos'].mean().to_csv('mean.csv', index=False)"
        )


def _sort_out(
    rows: Sequence[LabelRow], score_range: ScoreRange | None, exists: Callable[[str], bool]
) -> tuple[list[tuple[LabelRow, float]], list[Reject]]:
    usable: list[tuple[LabelRow, float]] = []
    rejected: list[Reject] = []
    for row in rows:
        score, problem = parse_score(row.score, score_range)
        if row.problem:
            problem = row.problem
        elif not problem and row.weight is not None and not _weight(row.weight) > 0:
            problem = f"the weight {row.weight!r} is no number above 0"
        elif not exists(row.image_path):
            problem = "image not found"
        if problem:
            rejected.append(Reject(row.image_path, f"{row.where}: {problem}"))
        else:
            usable.append((row, score))
    return usable, rejected


def parse_score(value: object, score_range: ScoreRange | None) -> tuple[float, str]:
    """A score as a number, and what is wrong with it: empty where nothing is, else the number is NaN."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan, "the score is empty"
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | np.number):
        return math.nan, f"the score {value!r} is not a number"
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):  # float() takes more, such as 3_5 for 35
        hint = "; write a decimal point" if _DECIMAL_COMMA.fullmatch(value.strip()) else ""
        return math.nan, f"the score {value!r} is not a number{hint}"
    score = float(value)
    if not math.isfinite(score):
        return math.nan, f"the score {value!r} is not finite"
    if score_range is not None and not score_range.mos_min <= score <= score_range.mos_max:
        return math.nan, f"the score {score:g} is outside {score_range.mos_min:g}..{score_range.mos_max:g}"
    return score, ""


def _weight(value: object) -> float:
    """NaN for what is no finite number."""
    number, _ = parse_score(value, None)
    return number


def _refuse_constant(scores: np.ndarray, root: str) -> None:
    if len(scores) == 0:
        raise InputError(f"{root}: no usable label row is left")
    if np.all(scores == scores[0]):
        found = "the only score is" if len(scores) == 1 else f"all {len(scores)} scores are"
        raise InputError(f"{root}: {found} {scores[0]:g}; constant scores teach nothing")


def _to_table(rows: Sequence[LabelRow], scores: np.ndarray, score_range: ScoreRange, name: str) -> pa.Table:
    columns = {
        "image_path": [row.image_path for row in rows],
        "mos": scores,
        "quality": np.asarray(score_range.to_quality(scores)),
        "reference_id": [row.reference_id for row in rows],
        "distortion": [row.distortion for row in rows],
        "level": [row.level for row in rows],
        "dataset": [name] * len(rows),
        "part": [row.part for row in rows],
        "weight": [None if row.weight is None else _weight(row.weight) for row in rows],
    }
    return pa.table(columns, schema=IMAGE_TABLE)


def relative(path: str, root: str) -> str:
    """A path or URI as seen from a folder, with `/` between its parts; a URI elsewhere as it is."""
    if "://" in path:
        return path.partition("?")[0].removeprefix(f"{root.partition('?')[0].rstrip('/')}/")
    return os.path.relpath(path, root).replace(os.sep, "/")

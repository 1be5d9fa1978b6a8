"""What every loader gives: one Arrow table of images with human scores, on one direction and one scale."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

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
    ]
)
"""`image_path` absolute; `mos` the source's own score; `quality` in [0, 1], 1 best; `level` 1..5."""


@dataclass(frozen=True)
class Reject:
    """An input that was left out."""

    path: str
    """The image, or the label file where a row names none."""
    reason: str
    """Why, with the line of the label file where there is one."""


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


@dataclass(frozen=True, kw_only=True)
class RejectLimits:
    """How much of a label file may be unusable before loading it is refused."""

    max_rejects: int | float = 0
    """Rows with a bad score or a repeated image: an int is a count, a float a fraction of the rows."""
    max_missing_fraction: float = 0.0
    """Rows whose image is not there, as a fraction of the rows, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.max_rejects < 0 or (isinstance(self.max_rejects, float) and self.max_rejects > 1):
            raise InputError(f"max_rejects: {self.max_rejects} must be a count from 0, or a fraction in [0.0, 1.0]")
        if not 0 <= self.max_missing_fraction <= 1:
            raise InputError(f"max_missing_fraction: {self.max_missing_fraction} must lie in [0, 1]")

    def bad_rows(self, n_rows: int) -> int:
        """Largest allowed number of bad rows among `n_rows`."""
        return int(self.max_rejects * n_rows) if isinstance(self.max_rejects, float) else self.max_rejects

    def missing_rows(self, n_rows: int) -> int:
        """Largest allowed number of rows without their image among `n_rows`."""
        return int(self.max_missing_fraction * n_rows)


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
    """What was done differently from the plain reading of the files, one line each."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def image_paths(self) -> list[str]:
        """Absolute paths, (N,)."""
        return self.table["image_path"].to_pylist()

    @property
    def reference_ids(self) -> list[str]:
        """Reference ids, (N,), as `protocol.split` takes them."""
        return self.table["reference_id"].to_pylist()

    @property
    def mos(self) -> np.ndarray:
        """Scores in the source's own scale, float64 (N,)."""
        return self.table["mos"].to_numpy()

    @property
    def quality(self) -> np.ndarray:
        """Quality in [0, 1], 1 best, float64 (N,)."""
        return self.table["quality"].to_numpy()

    def fingerprint(self) -> str:
        """sha256 (hex) over score range and rows, in their order, which shots are drawn by.

        Of a row: path relative to root, mos, reference, and the size of the file; of an object store's only the name.
        """
        columns = (self.image_paths, self.mos.tolist(), self.reference_ids)
        rows = [
            f"{relative(path, self.root)}\t{mos!r}\t{reference}\t{local_size_bytes(path)}"
            for path, mos, reference in zip(*columns, strict=True)
        ]
        scale = self.score_range
        head = f"{float(scale.mos_min)!r}\t{float(scale.mos_max)!r}\t{scale.higher_is_better}"
        return hashlib.sha256("\n".join([head, *rows]).encode()).hexdigest()


def build(
    name: str,
    root: str,
    rows: Sequence[LabelRow],
    score_range: ScoreRange | None,
    limits: RejectLimits,
    *,
    higher_is_better: bool = True,
    notes: Iterable[str] = (),
    exists: Callable[[str], bool] = os.path.isfile,
) -> LabelledSet:
    """Check label rows and make the set of them; without a `score_range` the observed scores give one.

    Raises:
        InputError: no rows, constant scores, or more rejected rows than `limits` allow; it names the first one's line.
    """
    if not rows:
        raise InputError(f"{root}: the labels have no rows")
    usable, missing, bad = _sort_out(rows, score_range, exists)
    _refuse_beyond(missing, limits.missing_rows(len(rows)), "label rows without their image (max_missing_fraction)")
    _refuse_beyond(bad, limits.bad_rows(len(rows)), "bad label rows (max_rejects)")
    scores = np.array([score for _, score in usable], dtype=np.float64)
    _refuse_constant(scores, root)
    notes = list(notes)
    if score_range is None:
        score_range = ScoreRange(
            mos_min=float(scores.min()), mos_max=float(scores.max()), higher_is_better=higher_is_better
        )
        notes.append(f"score range taken from the scores: {score_range.mos_min:g} to {score_range.mos_max:g}")
    table = _to_table([row for row, _ in usable], scores, score_range, name)
    return LabelledSet(
        table, score_range, name, root if "://" in root else os.path.abspath(root), [*missing, *bad], notes
    )


def _sort_out(
    rows: Sequence[LabelRow], score_range: ScoreRange | None, exists: Callable[[str], bool]
) -> tuple[list[tuple[LabelRow, float]], list[Reject], list[Reject]]:
    usable: list[tuple[LabelRow, float]] = []
    missing: list[Reject] = []
    bad: list[Reject] = []
    first_seen: dict[str, str] = {}
    for row in rows:
        score, problem = _parse_score(row.score, score_range)
        if not exists(row.image_path):
            missing.append(Reject(row.image_path, f"{row.where}: image not found"))
        elif problem:
            bad.append(Reject(row.image_path, f"{row.where}: {problem}"))
        elif row.image_path in first_seen:
            bad.append(Reject(row.image_path, f"{row.where}: image already labelled at {first_seen[row.image_path]}"))
        else:
            first_seen[row.image_path] = row.where
            usable.append((row, score))
    return usable, missing, bad


def _parse_score(value: object, score_range: ScoreRange | None) -> tuple[float, str]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan, "the score is empty"
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
        return math.nan, f"the score {value!r} is not a number"
    try:
        score = float(value)
    except ValueError:
        return math.nan, f"the score {value!r} is not a number"
    if not math.isfinite(score):
        return math.nan, f"the score {value!r} is not finite"
    if score_range is not None and not score_range.mos_min <= score <= score_range.mos_max:
        return math.nan, f"the score {score:g} is outside {score_range.mos_min:g}..{score_range.mos_max:g}"
    return score, ""


def _refuse_beyond(rejects: Sequence[Reject], allowed: int, what: str) -> None:
    if len(rejects) > allowed:
        first = rejects[0]
        raise InputError(f"{len(rejects)} {what}, {allowed} allowed; the first: {first.reason} ({first.path})")


def _refuse_constant(scores: np.ndarray, root: str) -> None:
    if len(scores) == 0:
        raise InputError(f"{root}: no usable label row is left")
    if np.all(scores == scores[0]):
        raise InputError(f"{root}: all {len(scores)} scores are {scores[0]:g}; constant scores teach nothing")


def _to_table(rows: Sequence[LabelRow], scores: np.ndarray, score_range: ScoreRange, name: str) -> pa.Table:
    columns = {
        "image_path": [row.image_path for row in rows],
        "mos": scores,
        "quality": np.asarray(score_range.to_quality(scores)),
        "reference_id": [row.reference_id for row in rows],
        "distortion": [row.distortion for row in rows],
        "level": [row.level for row in rows],
        "dataset": [name] * len(rows),
    }
    return pa.table(columns, schema=IMAGE_TABLE)


def relative(path: str, root: str) -> str:
    """A path or URI as seen from a folder, with `/` between its parts; a URI elsewhere as it is."""
    if "://" in path:
        return path.partition("?")[0].removeprefix(f"{root.partition('?')[0].rstrip('/')}/")
    return os.path.relpath(path, root).replace(os.sep, "/")

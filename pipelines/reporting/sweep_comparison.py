"""Two sweeps side by side: medians, paired differences on the test images that both scored, settings and time.

Of each split and number of labels every sweep is taken with the lambda that its own validation chose. Labels are the
same for both where target, protocol and split seed are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from grmp_core.errors import InputError
from grmp_core.evaluation.paired_inference import FoldPredictions, paired_difference
from pipelines.rendering.document import Page, Section, Table, Text, to_html, to_markdown
from pipelines.results.statistics import best_by_validation
from pipelines.results.sweep_folder import SweepFolder, SweepResults
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_folder

if TYPE_CHECKING:  # the configuration holds this file's section
    from pipelines.configuration.schema import Config


@dataclass(frozen=True)
class SweepComparison:
    """Result of `grmp report A B`."""

    sweeps: tuple[str, str]
    rows: tuple[dict[str, Any], ...]
    """One a number of labels: medians of both, and A less B with its 95 % interval."""
    settings: tuple[tuple[str, str, str], ...]
    """Name and both values of every setting that differs."""
    left_out: int
    """Splits, summed over the numbers of labels, of which one sweep has no predictions, or fewer than two test images
    are common."""
    path_html: str
    path_md: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "rows": list(self.rows)}

    def as_text(self) -> str:
        shown = [dict(zip(_HEADER, _cells(row), strict=True)) for row in self.rows]
        settings = [f"{name}: {a} | {b}" for name, a, b in self.settings]
        lines = [f"A: {self.sweeps[0]}", f"B: {self.sweeps[1]}", *settings, table(shown), _note(self.left_out)]
        return "\n".join([*lines, self.path_html, self.path_md])


_HEADER = ("labels", "A", "B", "A less B [95 %]", "p", "splits", "images", "s a trial of A", "of B")
_NOTE = (
    "Medians of the test SRCC over the compared splits; mean paired difference, bootstrapped over the test images of "
    "each split, or of the splits that share them, and over these; p is one-sided for A being better, without "
    "correction for several rows."
)


def compare_sweeps(config: Config) -> SweepComparison:
    """Compare the sweeps of the two outputs `report.compare`; write `<output>/comparison/comparison.html` and .md.

    InputError for another number of them, one without results, and two without a split, number of labels and test
    images in common.
    """
    if len(config.report.compare) != 2:
        raise InputError(
            f"report.compare names {len(config.report.compare)} sweeps: give the outputs of two (grmp report A B)"
        )
    a, b = (SweepFolder.of(output).read() for output in config.report.compare)
    chosen = [best_by_validation(sweep.finished).set_index(["budget", "split_seed"]) for sweep in (a, b)]
    shared = chosen[0].index.intersection(chosen[1].index)
    pairs = ((one, _common(a, b, *(frame.at[one, "trial"] for frame in chosen))) for one in shared)
    common_of = {one: common for one, common in pairs if common is not None}
    rows = []
    for budget in sorted({budget for budget, _ in common_of}):
        compared = [(shots, seed) for shots, seed in common_of if shots == budget]
        trials = [frame.loc[compared] for frame in chosen]
        folds = _folds(common_of[one] for one in compared)
        medians = {name: float(t["srcc"].median()) for name, t in zip("ab", trials, strict=True)}
        seconds = {f"seconds_{name}": float(t["seconds"].median()) for name, t in zip("ab", trials, strict=True)}
        rows.append({"labels": int(budget), **medians, **asdict(paired_difference(folds)), **seconds})
    if not rows:
        raise InputError(
            f"{a.folder.uri} and {b.folder.uri} share no split and number of labels with the same test images: sweep "
            "the same target with the same sweep.shots and sweep.split_seeds"
        )
    settings = _differing(a, b)
    left_out = len(shared) - len(common_of)
    page = _page(a, b, rows, settings, left_out)
    files = [output_folder(config, "comparison") / f"comparison.{end}" for end in ("html", "md")]
    for file, text in zip(files, (to_html(page), to_markdown(page)), strict=True):
        file.write_bytes(text.encode())
    uris = (a.folder.uri, b.folder.uri)
    return SweepComparison(uris, tuple(rows), settings, left_out, files[0].uri, files[1].uri)


def _note(left_out: int) -> str:
    if not left_out:
        return _NOTE
    return (
        f"{_NOTE} {left_out} shared splits are left out: one sweep has no predictions of them, or fewer than two test "
        "images are common."
    )


def _common(a: SweepResults, b: SweepResults, trial_a: str, trial_b: str) -> pd.DataFrame | None:
    """Predictions of both for the same test images, in the order of these. Null where one has no predictions, or they
    have fewer than two test images in common."""
    tables = [sweep.folder.trial(trial).read_predictions() for sweep, trial in ((a, trial_a), (b, trial_b))]
    if tables[0] is None or tables[1] is None:
        return None
    both = tables[0].merge(tables[1], on=["image_path", "mos"], suffixes=("_a", "_b"))
    return None if len(both) < 2 else both.sort_values(["image_path", "mos"])


def _folds(commons: Iterable[pd.DataFrame]) -> list[FoldPredictions]:
    """Splits with the same test images are draws of one fold."""
    alike: dict[tuple[Any, ...], list[pd.DataFrame]] = {}
    for common in commons:
        alike.setdefault((*common["image_path"], *common["mos"]), []).append(common)
    return [
        FoldPredictions(
            groups_N=draws[0]["image_path"].to_numpy(),
            mos_N=draws[0]["mos"].to_numpy(),
            method_DN=np.stack([draw["mos_scale_score_a"] for draw in draws]),
            rival_DN=np.stack([draw["mos_scale_score_b"] for draw in draws]),
        )
        for draws in alike.values()
    ]


def _differing(a: SweepResults, b: SweepResults) -> tuple[tuple[str, str, str], ...]:
    """The settings of the two runs that differ; the output itself is none of them."""
    before, after = (_flat(sweep.manifest.get("config", {})) for sweep in (a, b))
    names = sorted({*before, *after} - {"output"})
    return tuple((n, str(before.get(n)), str(after.get(n))) for n in names if before.get(n) != after.get(n))


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in data.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    difference = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    medians, seconds = (f"{row['a']:.3f}", f"{row['b']:.3f}"), (f"{row['seconds_a']:.1f}", f"{row['seconds_b']:.1f}")
    return (
        f"{row['labels']}",
        *medians,
        difference,
        f"{row['p']:.2g}",
        f"{row['draws']}",
        f"{row['images']}",
        *seconds,
    )


def _page(
    a: SweepResults,
    b: SweepResults,
    rows: list[dict[str, Any]],
    settings: tuple[tuple[str, str, str], ...],
    left_out: int,
) -> Page:
    sections = [Section("Agreement with people", [Text(_note(left_out)), Table(_HEADER, tuple(map(_cells, rows)))])]
    different = Table(("setting", "A", "B"), settings, text_columns=frozenset((0, 1, 2)))
    sections.append(Section("Settings that differ", [different] if settings else [Text("None.")]))
    return Page("Two sweeps", f"A: {a.folder.uri} · B: {b.folder.uri}", sections)

"""Tables of an ablation: medians by arm, and the paired comparison of one arm with its rivals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.errors import InputError
from grmp_core.evaluation.paired_inference import MIN_GROUPS, FoldPredictions, PairedDifference, paired_difference
from grmp_core.storage import locate
from pipelines.results.statistics import holm, method_medians
from pipelines.runtime.console import table

COMPARISONS = "comparisons.json"


@dataclass(frozen=True)
class Comparison:
    """One hypothesis: the arm is better than its rival at this number of labels."""

    method: str
    rival: str
    shots: int
    result: PairedDifference
    within: PairedDifference | None = None
    """Of SRCC within scenes; null where there are none."""


def compare(
    predictions: pd.DataFrame,
    groups: Mapping[str, str],
    method: str,
    rivals: Sequence[str],
    folds: int,
    scene_of: Mapping[str, str] | None = None,
) -> tuple[list[Comparison], str | None]:
    """The arm against each rival at each number of labels, on the label draws that both finished.

    Args:
        predictions: rows as of `predictions.PREDICTIONS`.
        groups: image path -> group; images of one are drawn together.
        folds: `protocol.folds`; 0: splits with the same test images are label draws of one fold.
        scene_of: image path -> scene; null: nothing is compared within scenes.

    Returns:
        The comparisons, none where the arm or a rival did not run; and in one line why some cannot be made, null where
        all are.
    """
    ran = set(predictions["method"])
    comparisons, too_few = [], 0
    for rival in rivals:
        if not {method, rival} <= ran:
            continue
        pair = predictions[predictions["method"].isin((method, rival))]
        for shots, of_shots in pair.groupby("shots"):
            parts = _folds_of(of_shots, groups, method, rival, folds)
            if not parts:
                continue
            if any(len(set(part.groups_N)) < MIN_GROUPS for part in parts):
                too_few += 1
                continue
            inside = None
            if scene_of is not None:
                inside = paired_difference(_folds_of(of_shots, groups, method, rival, folds, scene_of))
            comparisons.append(Comparison(method, rival, int(shots), paired_difference(parts), inside))
    left_out = (
        f"{too_few} paired comparison{'s' if too_few > 1 else ''} left out: a test part has the images of fewer than "
        f"{MIN_GROUPS} references, which are drawn together; make the test parts larger (sweep.test_fraction, or fewer "
        "protocol.folds)"
    )
    return comparisons, left_out if too_few else None


def _folds_of(
    pair: pd.DataFrame,
    groups: Mapping[str, str],
    method: str,
    rival: str,
    folds: int,
    scene_of: Mapping[str, str] | None = None,
) -> list[FoldPredictions]:
    wide = pair.pivot_table(index="image_path", columns=["split_seed", "method"], values="predicted", observed=True)
    mos = pair.drop_duplicates("image_path").set_index("image_path")["mos"]
    seeds = sorted({seed for seed, _ in wide.columns if {(seed, method), (seed, rival)} <= set(wide.columns)})
    by_fold: dict[int | frozenset[str], list[int]] = {}
    for seed in seeds:
        tested = wide.index[wide[[(seed, method), (seed, rival)]].notna().all(axis=1)]
        by_fold.setdefault(seed % folds if folds else frozenset(tested), []).append(seed)
    parts = []
    for members in by_fold.values():
        test = wide[[(seed, name) for seed in members for name in (method, rival)]].dropna()
        parts.append(
            FoldPredictions(
                groups_N=np.array([groups[path] for path in test.index]),
                mos_N=mos[test.index].to_numpy(),
                method_DN=np.stack([test[seed, method] for seed in members]),
                rival_DN=np.stack([test[seed, rival] for seed in members]),
                scenes_N=None if scene_of is None else np.array([scene_of[path] for path in test.index]),
            )
        )
    return parts


def comparison_table(comparisons: Sequence[Comparison], corrected_with: Sequence[str]) -> pd.DataFrame:
    """One row a hypothesis, with Holm's correction over these and those of other ablations' folders.

    InputError for a folder without a comparison.
    """
    others: list[Any] = []
    for folder in corrected_with:
        file = locate(folder) / COMPARISONS
        if not file.exists():
            raise InputError(f"ablate.corrected_with: {file.uri} is missing; run that ablation first")
        others += [row["p"] for row in file.read_json()["comparisons"]]
    rows = [{"method": c.method, "rival": c.rival, "shots": c.shots, **asdict(c.result)} for c in comparisons]
    columns = ["method", "rival", "shots", "difference", "low", "high", "p", "draws", "images"]
    frame = pd.DataFrame(rows, columns=columns)
    corrected = holm(np.array([*frame["p"], *others], dtype=float))
    frame = frame.assign(p_holm=corrected[: len(frame)], family=len(corrected))
    for part in ("difference", "low", "high"):
        frame[f"{part}_within"] = [getattr(c.within, part, math.nan) for c in comparisons]
    return frame


def medians_text(results: pd.DataFrame, metric: str = "srcc", title: str = "median test SRCC [quartiles]") -> str:
    """Table of arms by number of labels: median of the metric over the splits, with quartiles."""
    medians = method_medians(results, metric)
    rows = []
    for method, group in medians.groupby("method", sort=False):
        cells = {f"{row.shots} shots": f"{row.median:.3f} [{row.q1:.3f}, {row.q3:.3f}]" for row in group.itertuples()}
        rows.append({title: method, **cells})
    return table(rows)


def comparisons_text(comparisons: pd.DataFrame, left_out: str | None = None) -> str:
    """Table of the hypotheses, with what was resampled below it, and why others are left out."""
    if comparisons.empty:
        return left_out or "no paired comparison: ablate.method and ablate.rivals were not both run"
    rows = [
        {
            "method": row.method,
            "better than": row.rival,
            "shots": row.shots,
            "mean difference [95 %]": f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]",
            "p": row.p,
            "p (Holm)": row.p_holm,
            **_within_cell(row),
        }
        for row in comparisons.itertuples()
    ]
    first = comparisons.iloc[0]
    text = (
        f"{table(rows)}\nbootstrap over test images by group and over {first['draws']} label draws; p one-sided, "
        f"corrected over {first['family']} hypotheses"
    )
    return text if left_out is None else f"{text}\n{left_out}"


def _within_cell(row: Any) -> dict[str, str]:
    if math.isnan(row.difference_within):
        return {}
    return {"within scenes [95 %]": f"{row.difference_within:+.3f} [{row.low_within:+.3f}, {row.high_within:+.3f}]"}

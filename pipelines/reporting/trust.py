"""Section of the report on intervals and refusals of the chosen model, measured on its test images."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from grmp_core.confidence.evidence import Evidence
from grmp_core.confidence.intervals import interval_of, margin_of
from grmp_core.model.bundle import DESCRIPTION, read_bundle
from pipelines.rendering.document import Picture, Pictures, Section, Text
from pipelines.rendering.palette import ACCENT, INK, STYLE, WARM, new_axes
from pipelines.results.sweep_folder import SweepResults
from pipelines.results.tables import EXCESS

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SHOWN = 0.9
"""The coverage whose width is told."""


def intervals_and_refusals(sweep: SweepResults) -> list[Section]:
    """No section where nothing is chosen, or the model and its predictions are gone or keep nothing to tell by."""
    if sweep.chosen is None:
        return []
    folder = sweep.folder.trial(sweep.chosen.trial)
    table = folder.read_predictions()
    if table is None or not (folder.bundle / DESCRIPTION).exists():
        return []
    bundle = read_bundle(folder.bundle)
    scale, evidence = bundle.score_range, bundle.evidence
    if scale is None or evidence is None:
        return []
    quality, truth = table["quality"].to_numpy(float), np.asarray(scale.to_quality(table["mos"].to_numpy(float)))
    points = scale.mos_max - scale.mos_min
    observed = coverage_of(quality, truth, evidence, COVERAGES)
    low, high = interval_of(quality, margin_of(evidence.predicted_N, evidence.quality_N, SHOWN))
    text = (
        f"Intervals come from the errors of {len(evidence.predicted_N)} held-out predictions inside the labels (one "
        f"model with out-of-fold residuals). On the {len(table)} test images those asked to hold {SHOWN:.0%} of the "
        f"human scores hold {observed[COVERAGES.index(SHOWN)]:.1%}, and are {points * np.mean(high - low):.3g} points "
        "wide on average."
    )
    pictures = [
        Picture(
            "coverage",
            _coverage_chart(COVERAGES, observed),
            "Share of human scores inside the interval by the share asked for",
            "Intervals on test images: dots on the line hold what they promise.",
        )
    ]
    if EXCESS in table:
        excess = table[EXCESS].to_numpy(float)
        text += f" {int((excess > 0).sum())} test images are unlike those that the model knows."
        shares, errors = risk_by_share(excess, points * np.abs(quality - truth))
        pictures.append(
            Picture(
                "risk",
                _risk_chart(shares, errors),
                "Mean absolute error by the share of images that are answered",
                "Risk against share answered: images least like the known ones are refused first.",
            )
        )
    return [Section("Intervals and refusals", [Text(text), Pictures(tuple(pictures))])]


def coverage_of(
    quality_N: np.ndarray, truth_N: np.ndarray, evidence: Evidence, coverages: tuple[float, ...]
) -> list[float]:
    """Share of true qualities inside the interval for each coverage that is asked for."""
    found = []
    for coverage in coverages:
        low, high = interval_of(quality_N, margin_of(evidence.predicted_N, evidence.quality_N, coverage))
        found.append(float(np.mean((low <= truth_N) & (truth_N <= high))))
    return found


def risk_by_share(excess_N: np.ndarray, error_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> (shares, mean error of that share of the images with the least excess), from half of them on."""
    ordered = error_N[np.argsort(excess_N, kind="stable")]
    counts = np.arange(max(1, len(ordered) // 2), len(ordered) + 1)
    return counts / len(ordered), np.cumsum(ordered)[counts - 1] / counts


def _coverage_chart(asked: tuple[float, ...], observed: list[float]) -> Figure:
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        axes.plot([asked[0], 1], [asked[0], 1], color=INK, lw=1, linestyle=(0, (1, 2)))
        axes.plot(asked, observed, "o-", color=ACCENT, ms=5, lw=1.6)
        axes.set_xlabel("share asked for")
        axes.set_ylabel("share inside the interval")
        _in_percent(axes, both=True)
    return figure


def _risk_chart(shares: np.ndarray, errors: np.ndarray) -> Figure:
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        axes.plot(shares, errors, color=WARM, lw=1.8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("share of images answered")
        axes.set_ylabel("mean absolute error (points)")
        _in_percent(axes, both=False)
    return figure


def _in_percent(axes: Axes, *, both: bool) -> None:
    axes.grid(visible=True)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if both:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))

"""The report's charts: tables in, matplotlib figures out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from grmp_core.evaluation.logistic_map import LogisticFit
from pipelines.rendering.palette import ACCENT, INK, MUTED, PAPER, STYLE, WARM, new_axes
from pipelines.results.labels_needed import LabelsNeeded

_SHADES = LinearSegmentedColormap.from_list("shades", ["#6cbfa8", "#1a6fb0", "#8a3ca8"])
_HEAT = LinearSegmentedColormap.from_list("heat", ["#f4f7fa", "#9fcbe0", "#2f7fb5", "#123d6b"])
_ON_CELL = ("#16202a", "#fefefe")
"""On a light cell, on a dark one: cells keep their colours in dark mode, so their text does, too."""


def number(value: float) -> str:
    """Lambda or another setting, as short as it can be told."""
    return f"{value:g}"


def learning_curves(cells: pd.DataFrame, target: float) -> Figure:
    """Median test SRCC by number of labels, one line a lambda, with its interquartile band."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        strengths = sorted(cells["lambda"].unique())
        for strength, colour, marker in zip(strengths, _colours(strengths), itertools.cycle("osD^vPX")):
            line = cells[(cells["lambda"] == strength) & (cells["n"] > 0)]
            x, y = line["budget"], line["srcc_median"]
            axes.fill_between(x, line["srcc_q1"], line["srcc_q3"], color=colour, alpha=0.13, linewidth=0)
            dashed = (0, (4, 2)) if strength == 0 else "-"
            label = f"lambda {number(strength)}"
            axes.plot(x, y, color=colour, marker=marker, ms=4, lw=1.8, linestyle=dashed, label=label)
        _target_line(axes, target)
        _budget_axis(axes, cells["budget"].unique())
        axes.set_ylabel("SRCC on unseen images")
        axes.legend(ncols=2 if len(strengths) > 3 else 1, loc="lower right", fontsize=8.5, handlelength=2.4)
    return figure


def heat_map(cells: pd.DataFrame) -> Figure:
    """Median test SRCC over lambda and number of labels."""
    with matplotlib.rc_context(STYLE):
        table = cells.pivot(index="lambda", columns="budget", values="srcc_median").sort_index()
        values = table.to_numpy(float)
        figure, axes = new_axes()
        low, high = np.nanmin(values), np.nanmax(values)
        shown = np.ma.masked_invalid(values)
        axes.pcolormesh(shown, cmap=_HEAT, vmin=low - 0.02, vmax=high + 0.02, edgecolors=PAPER, linewidth=1.5)
        for (i, j), value in np.ndenumerate(values):
            dark = np.isfinite(value) and (value - low) > 0.55 * (high - low + 0.01)
            colour = _ON_CELL[int(dark)] if np.isfinite(value) else INK
            text = f"{value:.3f}" if np.isfinite(value) else "failed"
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(np.arange(len(table.columns)) + 0.5, [str(n) for n in table.columns])
        axes.set_yticks(np.arange(len(table.index)) + 0.5, [number(strength) for strength in table.index])
        axes.set_xlabel("labelled images")
        axes.set_ylabel("lambda")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def labels_curve(cells: pd.DataFrame, strength: float, answer: LabelsNeeded) -> Figure:
    """Medians of one lambda with the fitted curve, and where it meets the target."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        line = cells[(cells["lambda"] == strength) & (cells["n"] > 0)]
        budgets = line["budget"].to_numpy(float)
        spread = [line["srcc_median"] - line["srcc_q1"], line["srcc_q3"] - line["srcc_median"]]
        axes.errorbar(budgets, line["srcc_median"], yerr=spread, fmt="o", color=ACCENT, ms=5, lw=1.2, label="measured")
        inside = np.isfinite(answer.estimate) and answer.estimate <= 3 * budgets.max()
        right = max(budgets.max(), answer.estimate if inside else 0) * 1.15
        if answer.fit is not None:
            for start, stop, dashes in ((budgets.min(), budgets.max(), "-"), (budgets.max(), right, ":")):
                x = np.geomspace(start, stop, 100)
                axes.plot(x, answer.fit(x), color=INK, lw=1.4, linestyle=dashes, label="fit" if dashes == "-" else None)
        if inside:
            axes.axvline(answer.estimate, color=WARM, lw=1, linestyle=":")
        _target_line(axes, answer.target)
        _budget_axis(axes, budgets)
        axes.set_ylabel("SRCC on unseen images")
        axes.legend(loc="lower right", fontsize=8.5)
    return figure


def scatter(quality: np.ndarray, mos: np.ndarray, fit: LogisticFit | None) -> Figure:
    """Predicted quality against human score, with the logistic map between them."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        axes.scatter(quality, mos, s=16, color=ACCENT, alpha=0.55, linewidths=0)
        if fit is not None:
            x = np.linspace(quality.min(), quality.max(), 200)
            axes.plot(x, fit(x), color=INK, lw=1.5, label="logistic map" if fit.converged else "straight line")
            axes.legend(loc="upper left", fontsize=8.5)
        axes.grid(visible=True)
        axes.set_xlabel("predicted quality (0 to 1)")
        axes.set_ylabel("human score (MOS)")
    return figure


def _colours(strengths: Sequence[float]) -> list[tuple[float, ...] | str]:
    positive = [s for s in strengths if s > 0]
    positions = np.linspace(0, 1, len(positive)) if len(positive) > 1 else [0.5]
    shades = dict(zip(positive, positions, strict=False))
    return [WARM if s == 0 else _SHADES(float(shades[s])) for s in strengths]


def _target_line(axes: Axes, target: float) -> None:
    low, high = axes.get_ylim()
    reach = 0.6 * (high - low)
    if low - reach <= target <= high + reach:
        axes.axhline(target, color=MUTED, lw=1, linestyle=(0, (1, 2)))
        axes.annotate(
            f"target {target:g}", (0, target), (3, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=8.5, color=MUTED,
        )  # fmt: skip


def _budget_axis(axes: Axes, budgets: Sequence[float] | np.ndarray) -> None:
    axes.set_xscale("log")
    values = sorted(float(n) for n in budgets)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{value:.0f}" for value in values])
    if len(values) == 1:
        axes.set_xlim(values[0] / 2, values[0] * 2)
    axes.set_xlabel("labelled images")
    axes.grid(visible=True)

"""Charts of an inspection: scores, and scores beside the sizes of the files."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.rendering.palette import ACCENT, INK, PAPER, STYLE, WARM, new_axes

_POINTS = 2000
_ALIKE = 0.9
"""Share of the images with one size above which a chart over sizes is a line."""


def histogram(scores: dict[str, Any]) -> Figure:
    """Images by score, on the scale of the set."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        edges, counts = np.array(scores["histogram"]["edges"]), scores["histogram"]["counts"]
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=ACCENT, edgecolor=PAPER, linewidth=0.8)
        axes.axvline(scores["median"], color=WARM, lw=1.4, linestyle=(0, (4, 2)))
        axes.set_xlabel(f"score ({'higher' if scores['higher_is_better'] else 'lower'} is better; dashed: the median)")
        axes.set_ylabel("images")
    return figure


def score_by_size(good: pd.DataFrame) -> tuple[Figure, str]:
    """Scores over megapixels, or where nearly all images have one size over the size of the file; and which it is.

    One colour a kind of file; at most 2,000 images, evenly chosen.
    """
    pixels_N = good["width_px"] * good["height_px"] / 1e6
    alike = pixels_N.value_counts(normalize=True).max() > _ALIKE
    sizes_N, unit = (good["size_bytes"] / 1000, "kB") if alike else (pixels_N, "megapixels")
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        shown = good.iloc[np.unique(np.linspace(0, len(good) - 1, _POINTS).astype(int))]
        colours = dict(zip(shown["kind"].value_counts().index, (ACCENT, WARM), strict=False))
        for kind, rows in shown.groupby("kind"):
            axes.scatter(
                sizes_N[rows.index],
                rows["mos"],
                s=10,
                alpha=0.4,
                linewidths=0,
                color=colours.get(kind, INK),
                label=kind,
            )
        if sizes_N.max() > 4 * sizes_N.min():
            axes.set_xscale("log")
        axes.set_xlabel(unit)
        axes.set_ylabel("score")
        if shown["kind"].nunique() > 1:
            axes.legend(loc="best", fontsize=8.5)
        axes.grid(visible=True)
    return figure, unit

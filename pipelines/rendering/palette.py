"""Colours that charts and pages share, and the style and formats of a chart."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE, GRID, PAPER = "#1f2933", "#5d6975", "#c5ced6", "#e1e6eb", "#ffffff"
ACCENT, WARM = "#1a6fb0", "#b4490f"
VARIABLES = {
    INK: "--ink", MUTED: "--muted", RULE: "--strong-rule", GRID: "--rule", PAPER: "--paper", ACCENT: "--accent",
    WARM: "--warm",
}  # fmt: skip
"""Colour -> its variable in style.css, so that a chart follows the page into dark mode."""

STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.fonttype": "path",
}
"""Of every chart, for `matplotlib.rc_context`."""
_SIZE = (4.7, 3.4)  # inches; small, so that the letters stay readable when a phone shrinks it


def new_axes() -> tuple[Figure, Axes]:
    """An empty chart, to be made inside `rc_context(STYLE)`."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.add_subplot()


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element whose ids start with `name`, so that several can stand in one page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in VARIABLES.items():
        text = re.sub(rf"(?<=fill: |roke: ){colour}\b", f"var({variable})", text)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", re.sub(r"\s+", " ", text), count=1)


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()

"""Colours that charts and pages share, and the formats of a chart."""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, RULE, GRID, PAPER = "#1f2933", "#5d6975", "#c5ced6", "#e1e6eb", "#ffffff"
ACCENT, WARM = "#1a6fb0", "#b4490f"
VARIABLES = {
    INK: "--ink", MUTED: "--muted", RULE: "--strong-rule", GRID: "--rule", PAPER: "--paper", ACCENT: "--accent",
    WARM: "--warm",
}  # fmt: skip
"""Colour -> its variable in style.css, so that a chart follows the page into dark mode."""


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

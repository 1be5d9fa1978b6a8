"""Colours and picture formats that all charts share."""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, RULE, ACCENT, WARM = "#1f2933", "#66727f", "#d9dee4", "#1a6fb0", "#c2571a"


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element whose ids start with `name`, so that several can stand in one page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", re.sub(r"\s+", " ", text), count=1)


def to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()

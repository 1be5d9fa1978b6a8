"""The diagram of the data's way as `docs/pictures/way.svg`, drawn from the Mermaid block of the README.

python docs/make_diagram.py README.md docs/pictures/way.svg
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

from markupsafe import escape

BOX, STEP = (210, 44), (250, 104)
"""Width and height of a box, and from one to the next, in px."""
STYLE = "font-family:system-ui,sans-serif;font-size:16px;text-anchor:middle"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, help="Markdown file with one Mermaid block")
    parser.add_argument("picture", type=Path, help="SVG file")
    options = parser.parse_args()
    options.picture.write_text(draw(options.text.read_text()))
    return 0


def parse(text: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """-> text of each node, and (from, to, label) of each edge."""
    block = text.partition("```mermaid\n")[2].partition("```")[0]
    names = {match[1]: match[2] for match in re.finditer(r"(\w+)\[([^\]]+)\]", block)}
    lines = [re.sub(r"\[[^\]]+\]", "", line) for line in block.splitlines()]
    edges = [match for line in lines if (match := re.match(r"\s*(\w+) -->\|([^|]+)\| (\w+)$", line))]
    return names, [(match[1], match[3], match[2]) for match in edges]


def places(edges: list[tuple[str, str, str]], names: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Centre of each node: as far down as its longest way, nodes of one row side by side."""
    below = dict.fromkeys(names, 0)
    for _ in names:
        for start, end, _label in edges:
            below[end] = max(below[end], below[start] + 1)
    for start, end, _label in reversed(edges):  # a start with one use stands right above it
        below[start] = below[end] - 1
    rows = defaultdict(list)
    for name, row in below.items():
        rows[row].append(name)
    widest = max(map(len, rows.values()))
    return {
        name: ((widest / 2 + i - (len(row) - 1) / 2) * STEP[0], (number + 0.5) * STEP[1])
        for number, row in rows.items()
        for i, name in enumerate(row)
    }


def draw(text: str) -> str:
    """SVG of the diagram on a white ground."""
    names, edges = parse(text)
    centre = places(edges, names)
    width = max(x for x, _ in centre.values()) + STEP[0] / 2
    height = max(y for _, y in centre.values()) + STEP[1] / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" style="{STYLE}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#fff"/>',
    ]
    for start, end, label in edges:
        (x0, y0), (x1, y1) = centre[start], centre[end]
        y0, y1 = y0 + BOX[1] / 2, y1 - BOX[1] / 2
        parts.append(
            f'<line x1="{x0:.0f}" y1="{y0:.0f}" x2="{x1:.0f}" y2="{y1:.0f}" stroke="#64748b" marker-end="url(#tip)"/>'
        )
        parts.append(
            f'<text x="{(x0 + x1) / 2:.0f}" y="{(y0 + y1) / 2 + 5:.0f}" fill="#b45309" stroke="#fff" stroke-width="6" '
            f'paint-order="stroke">{escape(label)}</text>'
        )
    for name, (x, y) in centre.items():
        parts.append(
            f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="6" '
            f'fill="#eff6ff" stroke="#1d4ed8"/>'
            f'<text x="{x:.0f}" y="{y + 5:.0f}" fill="#0f172a">{escape(names[name])}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())

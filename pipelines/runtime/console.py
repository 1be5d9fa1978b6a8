"""Lines, tables and error texts for people: progress on stderr, results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm


def say(message: str) -> None:
    """One line of progress, at once, on stderr: stdout is for results. A bar that is there moves down."""
    with tqdm.external_write_mode(file=sys.stderr):
        print(message, file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as an aligned text table; columns of the first row."""
    if not rows:
        return "(nothing)"
    cells = [list(rows[0])] + [[_cell(row.get(name)) for name in rows[0]] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def one_line(error: BaseException) -> str:
    """The last line of an error's text: Ray puts a worker's traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

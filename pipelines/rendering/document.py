"""A page of text, tables and figures, rendered as one self-contained HTML file and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from pipelines.rendering.templating import render

Cell = str | tuple[str, str]
"""Text of a table cell, or text and a remark in smaller letters."""


@dataclass(frozen=True)
class Text:
    text: str
    lead: bool = False
    """Set larger: the sentence to read first."""


@dataclass(frozen=True)
class Note:
    """A box that draws attention, with an optional list."""

    text: str
    items: tuple[str, ...] = ()
    warning: bool = False


@dataclass(frozen=True)
class Facts:
    """The few numbers that matter most: (label, value, remark)."""

    facts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int] = frozenset()
    """Rows that stand out."""
    breaks: frozenset[int] = frozenset()
    """Rows before which a group begins."""
    text_columns: frozenset[int] = frozenset()
    """Columns of words, set left; the others are numbers."""


@dataclass(frozen=True)
class Picture:
    name: str
    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Figures side by side where the screen is wide enough."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Thumbnail:
    jpeg: bytes | None
    """Null where the picture cannot be shown; then `remark` gives the reason."""
    title: str
    remark: str


@dataclass(frozen=True)
class Gallery:
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Image:
    """A picture over the width of the page."""

    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Folded:
    """Exact text behind a click."""

    summary: str
    text: str


Block = Text | Note | Facts | Table | Pictures | Gallery | Image | Folded


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    sections: Sequence[Section]
    """The first one has no heading of its own."""


def to_html(page: Page) -> str:
    """One file that loads nothing: style and figures inside, pictures as data, no script."""
    return render("document", title=page.title, page=page)


def to_markdown(page: Page) -> str:
    """The same content for a pull request; figures as files in `figures/`."""
    lines = [f"# {_md(page.title)}", "", _md(page.subtitle), ""]
    for i, section in enumerate(page.sections):
        if i:
            lines += [f"## {_md(section.title)}", ""]
        for block in section.blocks:
            lines += [_markdown(block), ""]
    return "\n".join(lines).rstrip() + "\n"


# --- Markdown ------------------------------------------------------------------------------------------------------


def _markdown(block: Block) -> str:
    renderers: dict[type, Callable[..., str]] = {
        Text: lambda b: f"**{_md(b.text)}**" if b.lead else _md(b.text),
        Note: lambda b: "\n".join([f"> {_md(b.text)}", *(f"> * {_md(item)}" for item in b.items)]),
        Facts: lambda b: "\n".join(f"* {_md(label)}: **{_md(value)}** ({_md(note)})" for label, value, note in b.facts),
        Table: _markdown_table,
        Pictures: lambda b: "\n\n".join(
            f"![{_md(p.alt)}](figures/{p.name}.png)\n\n*{_md(p.caption)}*" for p in b.pictures
        ),
        Gallery: lambda b: "\n".join(f"* {_md(t.title)}: {_md(t.remark)}" for t in b.thumbnails),
        Image: lambda b: f"*{_md(b.alt)}: {_md(b.caption)}*",
        Folded: lambda b: f"<details><summary>{escape(b.summary)}</summary>\n\n{_fenced(b.text)}\n\n</details>",
    }
    return renderers[type(block)](block)


def _markdown_table(table: Table) -> str:
    def row(cells: Sequence[Cell], strong: bool = False) -> str:
        texts = [_md(c if isinstance(c, str) else " ".join(c)).replace("|", "\\|") for c in cells]
        return "| " + " | ".join(f"**{t}**" if strong and t else t for t in texts) + " |"

    rule = "|" + "|".join(":--" if i in table.text_columns else "--:" for i in range(len(table.header))) + "|"
    return "\n".join([row(table.header), rule, *(row(cells, i in table.strong) for i, cells in enumerate(table.rows))])


def _md(text: str) -> str:
    """Plain text as Markdown: nothing in it may become markup, such as a file name with `<` or `*`."""
    for mark in ("\\", "`", "*", "_", "[", "]", "<", ">"):
        text = text.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, "\\" + mark))
    return " ".join(text.split())


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"

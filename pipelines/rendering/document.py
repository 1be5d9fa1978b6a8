"""A page of text, tables and figures, rendered as one self-contained HTML file and as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from pipelines.rendering.palette import to_svg

Cell = str | tuple[str, str]
"""Text of a table cell, or text with a lesser remark to it."""


@dataclass(frozen=True)
class Text:
    text: str
    lead: bool = False
    """Set larger: the sentence that is read if only one is."""


@dataclass(frozen=True)
class Note:
    """A box that must not be overlooked."""

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
    """Null where the picture cannot be shown; `remark` then says why."""
    title: str
    remark: str


@dataclass(frozen=True)
class Gallery:
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Folded:
    """Exact text behind a click."""

    summary: str
    text: str


Block = Text | Note | Facts | Table | Pictures | Gallery | Folded


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
    """One file that loads nothing: styles and figures inside, pictures as data, no script."""
    parts = []
    for i, section in enumerate(page.sections):
        heading = f"<h2>{escape(section.title)}</h2>" if i else ""
        parts.append(f"<section>{heading}{''.join(_html(block) for block in section.blocks)}</section>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(page.title)}</title><style>{_CSS}</style></head><body><main>"
        f'<header><h1>{escape(page.title)}</h1><p class="sub">{escape(page.subtitle)}</p></header>'
        f"{chr(10).join(parts)}</main></body></html>\n"
    )


def to_markdown(page: Page) -> str:
    """The same content for a pull request; figures as files in `figures/`."""
    lines = [f"# {_md(page.title)}", "", _md(page.subtitle), ""]
    for i, section in enumerate(page.sections):
        if i:
            lines += [f"## {_md(section.title)}", ""]
        for block in section.blocks:
            lines += [_markdown(block), ""]
    return "\n".join(lines).rstrip() + "\n"


# --- HTML ----------------------------------------------------------------------------------------------------------


def _html(block: Block) -> str:
    renderers: dict[type, Callable[..., str]] = {
        Text: lambda b: f"<p{' class=lead' if b.lead else ''}>{escape(b.text)}</p>",
        Note: _html_note,
        Facts: _html_facts,
        Table: _html_table,
        Pictures: lambda b: f'<div class="pair">{"".join(_html_picture(p) for p in b.pictures)}</div>',
        Gallery: lambda b: f'<div class="gallery">{"".join(_html_thumbnail(t) for t in b.thumbnails)}</div>',
        Folded: lambda b: f"<details><summary>{escape(b.summary)}</summary><pre>{escape(b.text)}</pre></details>",
    }
    return renderers[type(block)](block)


def _html_note(note: Note) -> str:
    items = "".join(f"<li>{escape(item)}</li>" for item in note.items)
    listing = f"<ul>{items}</ul>" if items else ""
    return f'<div class="note{" warning" if note.warning else ""}"><p>{escape(note.text)}</p>{listing}</div>'


def _html_facts(facts: Facts) -> str:
    cards = "".join(
        f"<div><dt>{escape(label)}</dt><dd><b>{escape(value)}</b><span>{escape(remark)}</span></dd></div>"
        for label, value, remark in facts.facts
    )
    return f'<dl class="facts">{cards}</dl>'


def _html_table(table: Table) -> str:
    def row(cells: Sequence[Cell], tag: str, kind: str = "") -> str:
        inner = "".join(
            f"<{tag}{' class=w' if i in table.text_columns else ''}>{_html_cell(c)}</{tag}>"
            for i, c in enumerate(cells)
        )
        return f"<tr{f' class={kind!r}' if kind else ''}>{inner}</tr>"

    kinds = [
        " ".join(name for name, rows in (("strong", table.strong), ("break", table.breaks)) if i in rows)
        for i in range(len(table.rows))
    ]
    body = "".join(row(cells, "td", kind) for cells, kind in zip(table.rows, kinds, strict=True))
    head = row(table.header, "th")
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _html_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return f"{escape(cell[0])} <small>{escape(cell[1])}</small>"


def _html_picture(picture: Picture) -> str:
    svg = to_svg(picture.figure, picture.name).replace("<svg ", f'<svg role="img" aria-label="{escape(picture.alt)}" ')
    return f"<figure>{svg}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def _html_thumbnail(thumbnail: Thumbnail) -> str:
    if thumbnail.jpeg is None:
        shown = '<div class="blank">no picture</div>'
    else:
        data = base64.b64encode(thumbnail.jpeg).decode()
        shown = f'<img alt="{escape(thumbnail.title)}" src="data:image/jpeg;base64,{data}">'
    title, remark = escape(thumbnail.title), escape(thumbnail.remark)
    return f"<figure>{shown}<figcaption><b>{title}</b>{remark}</figcaption></figure>"


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


_CSS = """
:root{--ink:#1f2933;--muted:#5d6975;--rule:#e1e6eb;--paper:#fff;--back:#f5f7f9;--accent:#1a6fb0;--warm:#b4490f}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
header{margin:0 0 24px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 6px;letter-spacing:-.015em}
h2{font-size:1.22rem;line-height:1.3;margin:0 0 12px;letter-spacing:-.005em}
p{margin:0 0 14px;max-width:74ch}
.sub{color:var(--muted);margin:0}
.lead{font-size:1.16rem;line-height:1.5}
section{background:var(--paper);border:1px solid var(--rule);border-radius:10px;padding:26px 28px 14px;margin:0 0 20px}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:12px;margin:6px 0 16px}
.facts div{background:var(--back);border-radius:8px;padding:12px 14px}
.facts dt{color:var(--muted);font-size:.82rem}
.facts dd{margin:0}
.facts b{display:block;font-size:1.5rem;line-height:1.3;font-variant-numeric:tabular-nums}
.facts span{color:var(--muted);font-size:.82rem;line-height:1.35;display:block}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:24px;margin:0 0 14px}
figure{margin:0;min-width:0}
svg{display:block;width:100%;height:auto;max-width:560px}
figcaption{color:var(--muted);font-size:.86rem;line-height:1.45;margin-top:6px;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:0 0 16px}
table{border-collapse:collapse;min-width:min(100%,420px);font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{color:var(--muted);font-weight:600;white-space:normal;max-width:9em;font-size:.82rem;border-bottom-color:#c5ced6;vertical-align:bottom}
th:first-child,td:first-child{padding-left:0}
th.w,td.w{text-align:left;white-space:normal;overflow-wrap:anywhere}
td small{color:var(--muted);font-size:.84em;margin-left:4px}
tr.strong td{font-weight:650}
tr.strong td small{font-weight:400}
tr.break td{border-top:2px solid #c5ced6}
.note{border-left:4px solid var(--accent);background:#eef5fb;border-radius:0 8px 8px 0;padding:12px 16px;
 margin:0 0 16px;max-width:76ch}
.note.warning{border-left-color:var(--warm);background:#fdf3ec}
.note p{margin:0}
.note ul{margin:6px 0 0;padding-left:20px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(158px,1fr));gap:16px;margin:0 0 14px}
.gallery img,.blank{display:block;width:100%;aspect-ratio:4/3;object-fit:contain;background:#eceff2;border-radius:6px}
.blank{display:grid;place-items:center;color:var(--muted);font-size:.85rem}
.gallery b{display:block;color:var(--ink);font-weight:600}
details{margin:0 0 12px}
summary{cursor:pointer;color:var(--accent);font-weight:600}
pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--back);
 border-radius:8px;padding:12px 14px;margin:8px 0 0;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
@media(max-width:600px){
 main{padding:22px 12px 40px}header{padding:0 4px}h1{font-size:1.5rem}
 section{padding:18px 16px 8px}.lead{font-size:1.06rem}
 .facts{grid-template-columns:1fr 1fr;gap:8px}.facts div{padding:10px 12px}.facts b{font-size:1.25rem}
 th,td{padding:5px 8px}table{font-size:.86rem}td small{display:block;margin:0}
 .gallery{grid-template-columns:1fr 1fr;gap:12px}}
@media print{body{background:#fff}section{border:0;padding:0;break-inside:avoid}}
""".strip()

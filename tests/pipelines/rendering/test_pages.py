"""Pages: whatever a text says it stays text, and style.css and the charts agree."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from pipelines.rendering import contact_sheet, palette
from pipelines.rendering.document import (
    Block,
    Facts,
    Folded,
    Gallery,
    Image,
    Note,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    Thumbnail,
    _md,
    to_html,
    to_markdown,
)
from pipelines.rendering.templating import TEMPLATES, render

ROOT = Path(__file__).resolve().parents[3]
EVIL = """</style><script>'x'</script>" onload="steal()" & {{ 1/0 }}"""


class Collector(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def chart() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, 1], color=palette.ACCENT)
    return figure


def blocks(text: str) -> list[Block]:
    """Each block once, with `text` in every field that is shown."""
    return [
        Text(text, lead=True),
        Note(text, (text,), warning=True),
        Facts(((text, text, text),)),
        Table((text, text), ((text, (text, text)),), frozenset((0,)), frozenset((0,)), frozenset((0,))),
        Pictures((Picture("chart", chart(), text, text),)),
        Gallery((Thumbnail(None, text, text), Thumbnail(b"jpeg", text, text))),
        Image(b"png", text, text),
        Folded(text, text),
    ]


def pages(text: str) -> list[str]:
    tile = contact_sheet.Tile(np.zeros((4, 4, 3), np.uint8), text)
    groups = [contact_sheet.Group(text, [contact_sheet.Line(text, text, [tile])])]
    sections = [Section(text, blocks(text)), Section(text, [])]
    return [
        to_html(Page(text, text, sections)),
        contact_sheet.to_html(contact_sheet.Sheet(text, text, tile, groups)),
    ]


def test_every_block_is_covered() -> None:
    assert {type(block) for block in blocks("")} == set(get_args(Block))


@pytest.mark.parametrize("kind", [0, 1], ids=["document", "contact sheet"])
def test_text_never_becomes_markup(kind: int) -> None:
    evil, tame = Collector(), Collector()
    evil.feed(pages(EVIL)[kind])
    tame.feed(pages("tame")[kind])
    assert [(tag, sorted(attributes)) for tag, attributes in evil.elements] == [
        (tag, sorted(attributes)) for tag, attributes in tame.elements
    ]
    assert not {"script", "link", "iframe"} & {tag for tag, _ in evil.elements}
    shown = evil.text + "".join(value or "" for _, values in evil.elements for value in values.values())
    assert shown.count(EVIL) == pages("tame")[kind].count("tame")


def test_page_may_load_nothing_and_pictures_are_inside_it() -> None:
    for page in pages("x"):
        assert """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:\"""" in page
        assert not re.search(r'(src|href)="(?!data:|#)|@import|url\((?!#)|https?://(?!www\.w3\.org/)', page)


def test_unknown_names_in_a_template_are_errors() -> None:
    with pytest.raises(UndefinedError, match="page"):
        render("document", title="no page")


def test_charts_use_the_colours_of_the_page() -> None:
    """Light values of the stylesheet are the palette's, dark ones are others; no chart has a fixed palette colour."""
    style = (TEMPLATES / "style.css").read_text()
    light, dark = re.findall(r":root \{([^}]*)\}", style)
    for colour, variable in palette.VARIABLES.items():
        assert f"{variable}: {colour};" in light
        assert f"{variable}: #" in dark
        assert f"{variable}: {colour};" not in dark
    svg = palette.to_svg(chart(), "chart")
    assert f"stroke: var({palette.VARIABLES[palette.ACCENT]})" in svg
    assert palette.ACCENT not in svg


def test_every_variable_of_the_stylesheet_has_a_value() -> None:
    style = (TEMPLATES / "style.css").read_text()
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= set(re.findall(r"(--[\w-]+):", style))


def test_wheel_has_the_templates() -> None:
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    globs = packaging["package-data"]["pipelines"]
    for file in TEMPLATES.iterdir():
        assert any(fnmatch.fnmatch(str(file.relative_to(ROOT / "pipelines")), glob) for glob in globs)


def test_markdown_has_every_block() -> None:
    text = to_markdown(Page("title", "subtitle", [Section("", blocks("told")), Section("more", [])]))
    assert "![told](figures/chart.png)" in text
    assert "| **told** | **told told** |" in text
    assert "> told\n> * told" in text
    assert "```\ntold\n```" in text


def test_markdown_takes_names_literally() -> None:
    assert _md("a_b*c <d> [e]") == "a\\_b\\*c &lt;d&gt; \\[e\\]"

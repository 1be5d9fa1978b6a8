"""A contact sheet: a line of labelled tiles a distortion type, as one HTML page or one PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.rendering.palette import INK, MUTED, RULE


@dataclass(frozen=True)
class Tile:
    """A piece of a picture at its own resolution, square, and what is printed below it."""

    image_HW3: np.ndarray
    label: str


@dataclass(frozen=True)
class Line:
    """One distortion type: its tiles by level."""

    name: str
    description: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Group:
    title: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Sheet:
    title: str
    remark: str
    untouched: Tile | None
    groups: Sequence[Group]


def to_html(sheet: Sheet) -> str:
    """One file that loads nothing; the tiles are inside it, compressed without loss."""
    groups = "".join(_html_group(group) for group in sheet.groups)
    untouched = _html_tile(sheet.untouched, "the untouched picture") if sheet.untouched else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(sheet.title)}</title><style>{_CSS}</style></head><body>"
        f"<header>{untouched}<div><h1>{escape(sheet.title)}</h1><p>{escape(sheet.remark)}</p></div></header>"
        f"<main>{groups}</main></body></html>\n"
    )


def to_png(sheet: Sheet) -> bytes:
    """One picture, as wide as the longest line of tiles."""
    tile_px = _tile_px(sheet)
    columns = max(len(line.tiles) for group in sheet.groups for line in group.lines)
    width = 2 * _MARGIN_PX + columns * (tile_px + _GAP_PX) - _GAP_PX
    pen = _Pen(Image.new("RGB", (width, _png_height(sheet, tile_px)), "white"), tile_px)
    pen.header(sheet)
    for group in sheet.groups:
        pen.group(group)
    stream = io.BytesIO()
    pen.image.save(stream, "PNG")
    return stream.getvalue()


# --- HTML ----------------------------------------------------------------------------------------------------------


def _html_group(group: Group) -> str:
    lines = "".join(
        f'<div class="line"><div class="head"><h3>{escape(line.name)}</h3><p>{escape(line.description)}</p></div>'
        f'<div class="tiles">{"".join(_html_tile(tile, line.name) for tile in line.tiles)}</div></div>'
        for line in group.lines
    )
    return f'<section><h2>{escape(group.title)}</h2><div class="scroll">{lines}</div></section>'


def _html_tile(tile: Tile, name: str) -> str:
    stream = io.BytesIO()
    Image.fromarray(tile.image_HW3).save(stream, "WEBP", lossless=True)
    data = base64.b64encode(stream.getvalue()).decode()
    height, width = tile.image_HW3.shape[:2]
    return (
        f'<figure><img width="{width}" height="{height}" alt="{escape(name)}, {escape(tile.label)}" '
        f'src="data:image/webp;base64,{data}"><figcaption>{escape(tile.label)}</figcaption></figure>'
    )


_CSS = f"""
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%}}
body{{margin:0 auto;max-width:1000px;padding:24px 16px 48px;color:{INK};background:#fff;
 font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}}
header{{display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start}}
header div{{flex:1 1 260px}}
h1{{font-size:1.5rem;line-height:1.25;margin:0 0 6px}}
h2{{font-size:1.15rem;margin:32px 0 4px;padding-top:12px;border-top:2px solid {RULE}}}
h3{{font-size:1rem;margin:0}}
p{{margin:0;color:{MUTED};max-width:74ch}}
.scroll{{overflow-x:auto}}
.line{{width:max-content;min-width:100%;margin:14px 0}}
.head{{position:sticky;left:0;width:min(100vw - 32px,968px);margin:0 0 6px}}
.tiles{{display:flex;gap:12px}}
figure{{margin:0}}
img{{display:block}}
figcaption{{font-size:.86rem;color:{MUTED};margin-top:3px;font-variant-numeric:tabular-nums}}
""".strip()

# --- PNG -----------------------------------------------------------------------------------------------------------

_MARGIN_PX, _GAP_PX, _LABEL_PX = 24, 12, 26
_GROUP_PX, _HEADING_PX = 46, 44
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _tile_px(sheet: Sheet) -> int:
    return int(sheet.groups[0].lines[0].tiles[0].image_HW3.shape[0])


def _png_height(sheet: Sheet, tile_px: int) -> int:
    num_lines = sum(len(group.lines) for group in sheet.groups)
    line_px = _HEADING_PX + tile_px + _LABEL_PX
    return 2 * _MARGIN_PX + tile_px + _LABEL_PX + len(sheet.groups) * _GROUP_PX + num_lines * line_px


class _Pen:
    """Draws a sheet from top to bottom."""

    def __init__(self, image: Image.Image, tile_px: int) -> None:
        self.image, self.tile_px, self.y = image, tile_px, _MARGIN_PX
        self._draw = ImageDraw.Draw(image)

    def header(self, sheet: Sheet) -> None:
        left = _MARGIN_PX
        if sheet.untouched:
            self._tiles([sheet.untouched])
            left += self.tile_px + 2 * _GAP_PX
        self._text(left, self.y, sheet.title, 22, INK, bold=True)
        room = self.image.width - left - _MARGIN_PX
        for i, row in enumerate(self._wrapped(sheet.remark, 13, room)):
            self._text(left, self.y + 40 + 20 * i, row, 13, MUTED)
        self.y += self.tile_px + _LABEL_PX

    def group(self, group: Group) -> None:
        self._draw.line((_MARGIN_PX, self.y + 10, self.image.width - _MARGIN_PX, self.y + 10), RULE, 2)
        self._text(_MARGIN_PX, self.y + 18, group.title, 17, INK, bold=True)
        self.y += _GROUP_PX
        for line in group.lines:
            self._text(_MARGIN_PX, self.y, line.name, 14, INK, bold=True)
            self._text(_MARGIN_PX, self.y + 20, line.description, 12, MUTED)
            self.y += _HEADING_PX
            self._tiles(line.tiles)
            self.y += self.tile_px + _LABEL_PX

    def _tiles(self, tiles: Sequence[Tile]) -> None:
        for i, tile in enumerate(tiles):
            left = _MARGIN_PX + i * (self.tile_px + _GAP_PX)
            self.image.paste(Image.fromarray(tile.image_HW3), (left, self.y))
            self._text(left, self.y + self.tile_px + 3, tile.label, 12, MUTED)

    def _text(self, x: int, y: int, text: str, size_px: int, colour: str, bold: bool = False) -> None:
        self._draw.text((x, y), text, colour, _font(size_px, bold))

    def _wrapped(self, text: str, size_px: int, room_px: int) -> list[str]:
        rows = [""]
        for word in text.split():
            longer = f"{rows[-1]} {word}".strip()
            if self._draw.textlength(longer, _font(size_px)) <= room_px:
                rows[-1] = longer
            else:
                rows.append(word)
        return rows


def _font(size_px: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONTS / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size_px)

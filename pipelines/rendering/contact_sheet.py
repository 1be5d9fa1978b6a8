"""A contact sheet, one line of labelled tiles per distortion type, as an HTML page or a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.rendering.palette import INK, MUTED, RULE
from pipelines.rendering.templating import render


@dataclass(frozen=True)
class Tile:
    """A square piece of a picture at native resolution, uint8 (H, W, 3), and the text below it."""

    image_HW3: np.ndarray
    label: str


@dataclass(frozen=True)
class Line:
    """One distortion type, its tiles in the order of their levels."""

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
    return render("contact_sheet", title=sheet.title, sheet=sheet)


def to_png(sheet: Sheet) -> bytes:
    """The sheet as PNG data, as wide as the longest line of tiles."""
    tile_px = int(sheet.groups[0].lines[0].tiles[0].image_HW3.shape[0])
    columns = max(len(line.tiles) for group in sheet.groups for line in group.lines)
    width = 2 * _MARGIN_PX + columns * (tile_px + _GAP_PX) - _GAP_PX
    num_lines = sum(len(group.lines) for group in sheet.groups)
    height = 2 * _MARGIN_PX + tile_px + _LABEL_PX + len(sheet.groups) * _GROUP_PX
    height += num_lines * (_HEADING_PX + tile_px + _LABEL_PX)
    pen = _Pen(Image.new("RGB", (width, height), "white"), tile_px)
    pen.header(sheet)
    for group in sheet.groups:
        pen.group(group)
    stream = io.BytesIO()
    pen.image.save(stream, "PNG")
    return stream.getvalue()


# --- PNG -----------------------------------------------------------------------------------------------------------

_MARGIN_PX, _GAP_PX, _LABEL_PX = 24, 12, 26
_GROUP_PX, _HEADING_PX = 46, 44
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


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

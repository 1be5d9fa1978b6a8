"""The templates of all pages, and one stylesheet for them.

A page is one file that loads nothing: the style stands inside it and pictures are data URIs. All text is escaped.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pipelines.rendering.palette import to_svg

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, title: str, **content: Any) -> str:
    """One page of `templates/<template>.html.j2`, with the stylesheet inside it."""
    style = Markup((TEMPLATES / "style.css").read_text().strip())  # noqa: S704  # a file of this package
    return _environment().get_template(f"{template}.html.j2").render(title=title, style=style, **content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"kind": _kind, "svg": _svg, "webp": _webp, "data_uri": _data_uri}
    return environment


def _kind(block: object) -> str:
    """Name of the macro for a block."""
    return type(block).__name__.lower()


def _svg(picture: Any) -> Markup:
    """The figure of a `Picture` as an element of the page, with its `alt` text."""
    label = Markup('<svg role="img" aria-label="{}" ').format(picture.alt)
    return Markup(to_svg(picture.figure, picture.name).replace("<svg ", label, 1))  # noqa: S704  # matplotlib escapes


def _webp(image_HW3: np.ndarray) -> bytes:
    """Compressed without loss."""
    stream = io.BytesIO()
    Image.fromarray(image_HW3).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"

"""The page of a scored video: its quality over time, and its worst moments."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pipelines.rendering.document import (
    Facts,
    Gallery,
    Note,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    Thumbnail,
)
from pipelines.rendering.palette import ACCENT, STYLE, WARM, new_axes

THUMBNAIL_PX = 320


def thumbnail_of(pixels_HW3: np.ndarray) -> bytes:
    """A small JPEG of a frame."""
    small = Image.fromarray(pixels_HW3)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def build_page(name: str, model: str, content: dict[str, Any], thumbnails: dict[float, bytes]) -> Page:
    """content: as `video_scorer` makes it. thumbnails: JPEG by start of the window, the worst windows."""
    video, windows = content["video"], content["windows"]
    numbers = Facts(
        (
            ("quality", f"{content['quality']:.3f}", f"{content['pooling']} over windows of {content['window_s']:g} s"),
            ("mean", f"{content['pooled']['mean']:.3f}", "of the windows"),
            ("worst window", f"{content['worst']['quality']:.3f}", f"from {content['worst']['start_s']:g} s on"),
            ("scored", f"{video['taken']} frames", f"of {video['frames']}, {video['duration_s']:.1f} s"),
        )
    )
    chart = Picture("quality", _chart(windows, content["window_s"]), "Quality over time", "Quality of every window.")
    gallery = Gallery(
        tuple(
            Thumbnail(thumbnails[w["start_s"]], f"{w['worst_s']:.2f} s", f"window {w['quality']:.3f}")
            for w in sorted(windows, key=lambda w: w["quality"])
            if w["start_s"] in thumbnails
        )
    )
    table = Table(
        ("from second", "frames", "quality", "worst frame", "at second"),
        tuple(
            (f"{w['start_s']:g}", str(w["frames"]), f"{w['quality']:.3f}", f"{w['lowest']:.3f}", f"{w['worst_s']:.2f}")
            for w in windows
        ),
        strong=frozenset(i for i, w in enumerate(windows) if w["start_s"] in thumbnails),
    )
    notes = [Note("Doubts:", tuple(content["notes"]), warning=True)] if content["notes"] else []
    sections = [Section("Summary", [numbers, *notes, Pictures((chart,))])]
    if thumbnails:
        sections.append(Section("Worst moments", [Text("The worst frame of each of the worst windows:"), gallery]))
    sections.append(Section("By second", [table]))
    return Page(f"Quality of {name}", f"Model {model}", sections)


def _chart(windows: list[dict[str, Any]], window_s: float) -> Figure:
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes()
        starts = np.array([w["start_s"] for w in windows])
        quality = np.array([w["quality"] for w in windows])
        axes.step([*starts, starts[-1] + window_s], [*quality, quality[-1]], where="post", color=ACCENT, lw=1.5)
        worst = int(quality.argmin())
        axes.plot(starts[worst] + window_s / 2, quality[worst], "o", color=WARM, markersize=6)
        axes.set_ylim(0, 1)
        axes.set_xlabel("seconds")
        axes.set_ylabel("quality")
        axes.grid(visible=True)
    return figure

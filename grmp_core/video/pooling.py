"""One quality of a video out of that of its windows.

People remember the worst seconds of a video more than the rest, so that the mean is too kind to a video with a drop.
The harmonic mean weighs drops without a threshold, and every window still counts; a percentile does not see a drop
that is shorter than its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

OFFSET = 0.01
"""Added before the harmonic mean and taken away after it, so that one window of quality 0 does not make it 0."""
PERCENTILE = 10


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive frames of a video."""

    start_s: float
    frames: int
    quality: float
    """Mean of its frames, in [0, 1]."""
    lowest: float
    """Quality of its worst frame."""
    worst_s: float
    """Time of that frame."""


def windows_of(scored: Iterable[tuple[float, float, bytes]], window_s: float) -> Iterator[tuple[Window, bytes]]:
    """(time in s, quality, picture) of frames in order of time -> windows [k, k + 1) * window_s that have any, in
    order, each with the picture of its worst frame. One other picture is in memory."""
    number, times, quality, worst = 0, list[float](), list[float](), b""
    for time_s, value, picture in scored:
        current = int(time_s / window_s + 1e-9)
        if times and current != number:
            yield _window(number * window_s, times, quality), worst
            times, quality = [], []
        number = current
        worst = picture if not quality or value < min(quality) else worst
        times.append(time_s)
        quality.append(value)
    if times:
        yield _window(number * window_s, times, quality), worst


def _window(start_s: float, times: list[float], quality: list[float]) -> Window:
    worst = int(np.argmin(quality))
    return Window(
        start_s=start_s,
        frames=len(times),
        quality=float(np.mean(quality)),
        lowest=quality[worst],
        worst_s=times[worst],
    )


def pooled(quality_W: np.ndarray) -> dict[str, float]:
    """All poolings of the windows' quality in [0, 1], by name: mean, harmonic, percentile. They keep the range."""
    shifted = np.asarray(quality_W, dtype=np.float64) + OFFSET
    return {
        "mean": float(np.mean(quality_W)),
        "harmonic": float(1 / np.mean(1 / shifted) - OFFSET),
        "percentile": float(np.percentile(quality_W, PERCENTILE)),
    }

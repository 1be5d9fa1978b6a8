"""Frames of a video file at a stated rate, one in memory at a time (OpenCV with FFmpeg)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from grmp_core.errors import ImageError
from grmp_core.storage import is_utf8, readable

_SUFFIXES = """
.mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .wmv .flv .3gp .ts .mts .m2ts .ogv
"""
VIDEO_SUFFIXES: frozenset[str] = frozenset(_SUFFIXES.split())
"""File name endings, lower case, of what is taken for a video."""
_ENDS_EARLY = 0.98
"""Below this share of the frames that the header says, a video counts as broken off."""
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's own messages would go to stderr, in no order


@dataclass(frozen=True, kw_only=True)
class Frame:
    time_s: float
    """When it is shown, from the first frame of the video on."""
    pixels_HW3: np.ndarray
    """uint8 RGB, upright."""


@dataclass(kw_only=True)
class VideoFacts:
    """Size, length and doubts of a video; complete once all its frames were taken."""

    height_px: int = 0
    width_px: int = 0
    frames: int = 0
    """Frames that the file has; those that cannot be decoded are in the notes."""
    taken: int = 0
    duration_s: float = 0.0
    """Up to the end of the last frame."""
    notes: list[str] = field(default_factory=list)
    """Doubts, each one line."""


class Video:
    """A video file that is read once, from its start. `facts` fills while `frames` runs."""

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        """fps: frames a second to take, in (0, 240]."""
        self.path, self.fps = os.fspath(path), fps
        self.facts = VideoFacts()

    def frames(self) -> Iterator[Frame]:
        """The first frame, and then the first frame at or behind every further 1 / fps seconds.

        Times are those of the file, so that a variable rate is kept. Where they do not grow, the nominal rate takes
        their place, with a note. A file that breaks off gives the frames before, with a note.

        ImageError for a file that is missing, no video, or without a frame that can be decoded, and for a name that is
        not UTF-8.
        """
        with _opened(self.path) as capture:
            nominal = capture.get(cv2.CAP_PROP_FPS)
            step_s = 1 / nominal if math.isfinite(nominal) and nominal > 0 else 0.04
            claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            facts, first_s, last_s, slot = self.facts, math.nan, -math.inf, 0
            guessed = undecoded = 0
            while capture.grab():
                time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if facts.frames and not time_s > last_s:
                    time_s, guessed = last_s + step_s, guessed + 1
                first_s = time_s if not facts.frames else first_s
                last_s = time_s
                facts.frames += 1
                shown_s = time_s - first_s
                facts.duration_s = shown_s + step_s
                if shown_s * self.fps < slot - 1e-6:
                    continue
                is_good, image = capture.retrieve()
                if not is_good or image is None:
                    undecoded += 1  # the next frame takes its place
                    continue
                slot = math.floor(shown_s * self.fps + 1e-6) + 1
                facts.taken += 1
                facts.height_px, facts.width_px = image.shape[:2]
                yield Frame(time_s=shown_s, pixels_HW3=cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if not facts.taken:
            raise ImageError("holds no frame that can be decoded", self.path)
        if undecoded:
            facts.notes.append(f"{undecoded} frames could not be decoded; those behind them were taken")
        if guessed:
            facts.notes.append(f"{guessed} frames without a time of their own: placed by the nominal rate")
        if 0 < facts.frames < _ENDS_EARLY * claimed:
            facts.notes.append(
                f"breaks off: {facts.frames} of the {int(claimed)} frames that its header says can be decoded"
            )


@contextmanager
def _opened(path: str) -> Iterator[cv2.VideoCapture]:
    if not is_utf8(path):  # OpenCV would end the process
        raise ImageError("its name is not UTF-8; rename it", readable(path))
    if "://" in path:
        raise ImageError("videos are read from local files only; copy it to this machine", path)
    if not os.path.isfile(path):
        raise ImageError("no such file", path)
    if os.path.getsize(path) == 0:
        raise ImageError("empty file (zero bytes)", path)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of files that it cannot open
    try:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    except cv2.error as error:
        raise ImageError(f"cannot be opened ({' '.join(str(error).split())[:200]})", path) from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not capture.isOpened():
            raise ImageError("no video that can be decoded: damaged, cut off, or of another kind", path)
        yield capture
    finally:
        capture.release()

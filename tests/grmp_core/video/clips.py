"""Small video files with known content."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_clip(path: Path, frames: list[np.ndarray], fps: float = 10, code: str = "MJPG") -> Path:
    """Frames uint8 RGB of one size; Motion JPEG, in which every frame stands by itself."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def grey_frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frame i is grey of level 4 i."""
    return [np.full((height, width, 3), 4 * i, np.uint8) for i in range(count)]

"""Memory and speed of scoring a long video: ten minutes of 1080p, made on the spot.

    python -m tests.benchmarks.video_memory [--minutes 10] [--frames-only]

Prints the highest resident memory of the process before the video, after a tenth of it, and at its end: it must not
grow with the length. `--frames-only` leaves the model out and takes the mean of each frame for its quality, so that
reading alone is measured.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from grmp_core.model.backbone import load_backbone
from grmp_core.model.differentiable import unadapted
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig
from grmp_core.procedural import scenes
from grmp_core.strict_json import json_text
from grmp_core.video.frames import Video
from grmp_core.video.pooling import pooled, windows_of

FPS, HEIGHT_PX, WIDTH_PX = 24, 1080, 1920


def write_video(path: Path, seconds: int) -> None:
    """A drawn scene under a moving window."""
    scene = cv2.resize(scenes.reference(0, 600, 1000), (WIDTH_PX + 240, HEIGHT_PX + 60))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (WIDTH_PX, HEIGHT_PX))
    for i in range(seconds * FPS):
        writer.write(np.ascontiguousarray(scene[i % 60 : i % 60 + HEIGHT_PX, i % 240 : i % 240 + WIDTH_PX]))
    writer.release()


def peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def measure(minutes: float, *, frames_only: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.mp4")
        write_video(path, round(60 * minutes))
        scorer = None
        if not frames_only:
            backbone = load_backbone(BackboneConfig())
            scorer = Scorer(unadapted(backbone), "backbone", backbone=backbone)
        report: dict[str, object] = {"minutes": minutes, "file_mb": round(path.stat().st_size / 2**20, 1)}
        report["peak_before_mb"] = peak_mb()
        started = time.monotonic()
        video = Video(path, 1)

        def scored() -> Iterator[tuple[float, float, bytes]]:
            for frame in video.frames():
                pixels = frame.pixels_HW3
                yield frame.time_s, scorer.score([pixels])[0].quality if scorer else pixels.mean() / 255, b""
                if video.facts.taken == 6 * minutes:
                    report["peak_after_a_tenth_mb"] = peak_mb()

        windows = [window.quality for window, _ in windows_of(scored(), 1)]
        report |= {"peak_at_the_end_mb": peak_mb(), "seconds": round(time.monotonic() - started, 1)}
        return report | {"frames": video.facts.frames, "windows": len(windows), "pooled": pooled(np.array(windows))}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.video_memory")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--frames-only", action="store_true")
    options = parser.parse_args()
    print(json_text(measure(options.minutes, frames_only=options.frames_only), indent=2))


if __name__ == "__main__":
    main()

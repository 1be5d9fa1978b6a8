"""The screenshot of `docs/video.md`: a drawn clip with one blurred second, scored by the backbone alone."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from make_pictures import write
from PIL import Image
from playwright.sync_api import sync_playwright

from grmp_core.procedural import scenes
from pipelines.cli import main

SIZE_PX = {"width": 1000, "height": 1080}
FPS, SECONDS, BAD_SECOND = 4, 8, 5


def make(file: Path) -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("make_video_picture: there is no Chromium; install it (apt-get install chromium)", file=sys.stderr)
        return 2
    scene = scenes.reference(12, 300, 420)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.avi")
        writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (352, 264))
        for i in range(FPS * SECONDS):
            frame = cv2.cvtColor(np.ascontiguousarray(scene[i : i + 264, 2 * i : 2 * i + 352]), cv2.COLOR_RGB2BGR)
            writer.write(cv2.GaussianBlur(frame, (0, 0), 5) if i // FPS == BAD_SECOND else frame)
        writer.release()
        if main(["score", str(clip), "--model", "backbone", "--set", "video.worst=3", "--set", f"output={folder}/run"]):
            return 1
        [page] = Path(folder, "run", "video").glob("clip-*.html")
        return write(Image.open(io.BytesIO(screenshot(browser, page))), file)


def screenshot(browser: str, page: Path) -> bytes:
    """PNG data of the upper part of a page."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = chromium.new_page(viewport=SIZE_PX)
        shown.goto(page.as_uri())
        return shown.screenshot()


if __name__ == "__main__":
    sys.exit(make(Path(sys.argv[1])))

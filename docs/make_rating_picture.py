"""The screenshot of `docs/rating.md`: a drawn picture on the rating page, some votes into a session."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from make_pictures import write
from PIL import Image
from playwright.sync_api import sync_playwright

from grmp_core.procedural.scenes import reference

SIZE_PX = {"width": 1100, "height": 640}
NUM_PICTURES, NUM_VOTES = 16, 5


def main(file: Path) -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("make_rating_picture: there is no Chromium; install it (apt-get install chromium)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photos")
        folder.mkdir()
        for seed in range(NUM_PICTURES):
            Image.fromarray(reference(seed, 480, 720)).save(folder / f"{seed}.jpg", quality=12)
        command = [sys.executable, "-m", "pipelines.rate", str(folder), "--set", "rate.port=0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                lines = server.stderr or ()
                link = next(match[0] for line in lines if (match := re.search(r"http://\S+", line)))
                return write(Image.open(io.BytesIO(screenshot(browser, link))), file)
            finally:
                server.terminate()


def screenshot(browser: str, link: str) -> bytes:
    """PNG data of the page after a few votes."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport=SIZE_PX)
        page.goto(link)
        page.fill("#name", "Anna")
        page.press("#name", "Enter")
        for done in range(NUM_VOTES):
            page.wait_for_selector("#answers button:enabled")
            page.keyboard.press("4")
            page.wait_for_function(f"() => document.getElementById('count').textContent.startsWith('{done + 1} of')")
        page.wait_for_selector("#answers button:enabled")
        return page.screenshot()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

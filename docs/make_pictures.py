"""The screenshot of the README, made from a report by a headless Chromium: `make pictures`."""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SIZE_PX = (1280, 1230)
COLOURS = 128
MAX_BYTES = 200_000
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="HTML file")
    parser.add_argument("picture", type=Path, help="PNG file of its top")
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("make_pictures: there is no Chromium; install it (apt-get install chromium)", file=sys.stderr)
        return 2
    return write(Image.open(io.BytesIO(screenshot(browser, options.page))), options.picture)


def write(picture: Image.Image, file: Path) -> int:
    """Write a picture with few colours; -> exit code."""
    stream = io.BytesIO()
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    if len(stream.getvalue()) > MAX_BYTES:
        print(f"make_pictures: {len(stream.getvalue())} bytes, more than {MAX_BYTES}; lower COLOURS", file=sys.stderr)
        return 1
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stream.getvalue())
    print(f"{file} {len(stream.getvalue()) / 1000:.0f} kB")
    return 0


def screenshot(browser: str, page: Path) -> bytes:
    """The top of a local page as PNG data, with paths as seen from here; nothing but the page is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        copy, file = Path(folder, "page.html"), Path(folder, "page.png")
        copy.write_text(page.read_text().replace(f"{Path.cwd()}/", ""))
        size = ",".join(map(str, SIZE_PX))
        places = (f"--user-data-dir={folder}/profile", f"--screenshot={file}", f"--window-size={size}")
        command = [browser, *FLAGS, *places, copy.as_uri()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        return file.read_bytes()


if __name__ == "__main__":
    sys.exit(main())

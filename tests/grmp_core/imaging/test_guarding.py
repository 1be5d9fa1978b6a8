"""Decoding costs no more than its row, whatever a file holds, and leaves the process as it was."""

from __future__ import annotations

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from grmp_core.errors import ImageError
from grmp_core.imaging import decoding
from grmp_core.imaging.decoding import decode_image, read_image
from grmp_core.imaging.readers import READERS
from tests.grmp_core.imaging import pictures

ROOT = Path(__file__).resolve().parents[3]
LARGE = """
import sys
from pathlib import Path
from grmp_core.imaging.decoding import decode_image
image = decode_image(sys.argv[1])
part = image[:224, -224:]
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(*image.shape, part.shape == (224, 224, 3), 1024 * int(peak), "torch" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(("mode", "width", "height"), [("L", 16320, 12240), ("RGB", 12000, 9000)])
def test_the_largest_photos_of_phones_take_less_than_a_gibibyte(mode: str, width: int, height: int, tmp_path) -> None:
    Image.new(mode, (width, height)).save(tmp_path / "large.jpg")
    command = [sys.executable, "-W", "error", "-c", LARGE, str(tmp_path / "large.jpg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *shape, complete, peak, with_torch = done.stdout.split()
    assert shape == [str(height), str(width), "3"]
    assert (complete, with_torch) == ("True", "False")
    assert int(peak) < 2**30


@pytest.mark.parametrize(
    "error", [RuntimeError, AttributeError, TypeError, AssertionError, MemoryError, RecursionError]
)
def test_whatever_a_decoder_raises_is_an_image_error(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise error("of the decoder")

    data = pictures.encoded(Image.new("RGB", (8, 8)), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    with pytest.raises(ImageError, match="not enough memory" if error is MemoryError else "of the decoder"):
        read_image(data)
    monkeypatch.setitem(READERS, "PNG", broken)
    with pytest.raises(ImageError):
        read_image(data)


def test_an_interruption_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_image(pictures.encoded(Image.new("RGB", (8, 8)), "PNG"))


def test_pillows_limit_and_warnings_are_as_before() -> None:
    photo = pictures.photo()
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    read_image(pictures.encoded(photo, "PNG"))
    with pytest.raises(ImageError):
        read_image(pictures.encoded(photo, "PNG")[:60])
    assert list(warnings.filters) == filters
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_region_that_does_not_fit_into_memory_is_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    image = decode_image(pictures.encoded(Image.new("RGB", (8, 8)), "PNG"))

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding.np, "empty", full)
    with pytest.raises(ImageError, match="not enough memory"):
        image[:, :]


def test_threads_decode_one_after_the_other() -> None:
    photo = pictures.photo()
    data = pictures.encoded(photo, "PNG")
    limit = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        for decoded in pool.map(read_image, [data] * 200):
            np.testing.assert_array_equal(decoded, photo)
    assert limit == Image.MAX_IMAGE_PIXELS

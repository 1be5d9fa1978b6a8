"""Decoding: every kind of file a folder of photos holds, and every kind of damage."""

import io
import pickle
import re
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import ImageLimits, read_image
from tests.grmp_core.imaging.originals import originals

EXIF_ORIENTATION = 0x0112


@pytest.fixture
def photo() -> np.ndarray:
    rows, columns = np.mgrid[0:24, 0:36]
    return np.stack([rows * 10, columns * 7, 255 - rows * 5], axis=2).astype(np.uint8)


def encode(image: Image.Image, fmt: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def one_bit_png(width: int, height: int) -> bytes:
    """A valid black 1-bit PNG of any size, a few kB on disk."""
    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join([packer.compress(row * 100) for _ in range(height // 100)])
    data += packer.compress(row * (height % 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def peak_mb() -> float:
    """Peak memory of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(photo: np.ndarray, fmt: str) -> None:
    decoded = read_image(encode(Image.fromarray(photo), fmt))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, photo)


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_nearly(photo: np.ndarray, fmt: str) -> None:
    decoded = read_image(encode(Image.fromarray(photo), fmt, quality=95)).astype(int)
    assert np.abs(decoded - photo).mean() < 6


def test_multi_picture_jpeg_and_animation_give_the_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 30, 30), (30, 30, 200))]
    for fmt in ("MPO", "GIF"):
        decoded = read_image(encode(frames[0], fmt, save_all=True, append_images=frames[1:])).astype(int)
        assert np.abs(decoded - [200, 30, 30]).max() < 5


@pytest.mark.parametrize(
    "name", [name for name in originals() if not re.search("-1[26]|-profile|-pq|-lab|^heic|^jxl", name)]
)
def test_ordinary_files_are_pillows_pixels_to_the_last_bit(name: str) -> None:
    with Image.open(io.BytesIO(originals()[name])) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.has_transparency_data:
            turned = turned.convert("RGBA")
            turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
        np.testing.assert_array_equal(read_image(originals()[name]), np.asarray(turned.convert("RGB")))


def test_path_and_bytes_give_the_same(photo: np.ndarray, tmp_path: Path) -> None:
    data = encode(Image.fromarray(photo), "JPEG")
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), read_image(data))
    np.testing.assert_array_equal(read_image(str(path)), read_image(data))


def test_grey_is_repeated_over_the_channels(photo: np.ndarray) -> None:
    grey = photo[:, :, 0]
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, axis=2))


def test_16_bit_grey_is_scaled(photo: np.ndarray) -> None:
    grey16 = np.linspace(0, 65535, 24 * 36).reshape(24, 36).astype(np.uint16)
    ok, png = cv2.imencode(".png", grey16)
    assert ok
    decoded = read_image(png.tobytes())
    np.testing.assert_array_equal(decoded, np.round(grey16 / 257).astype(np.uint8)[:, :, None].repeat(3, axis=2))


def test_16_bit_rgb_is_scaled() -> None:
    rgb16 = np.random.default_rng(0).integers(0, 65536, (24, 36, 3), dtype=np.uint16)
    ok, png = cv2.imencode(".png", rgb16[:, :, ::-1])
    assert ok
    decoded = read_image(png.tobytes()).astype(float)
    assert np.abs(decoded - rgb16 / 257).max() <= 1


def test_32_bit_samples_are_refused() -> None:
    data = encode(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF")
    with pytest.raises(ImageError, match="32-bit samples"):
        read_image(data)


def test_palette_becomes_its_colours() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert (read_image(encode(image, "PNG")) == [10, 200, 30]).all()
    assert (read_image(encode(image, "GIF")) == [10, 200, 30]).all()


def test_cmyk_jpeg_has_the_colours_of_its_inks() -> None:
    image = Image.merge("CMYK", [Image.new("L", (16, 16), value) for value in (0, 255, 255, 0)])
    decoded = read_image(encode(image, "JPEG", quality=95)).astype(int)
    assert np.abs(decoded - [255, 0, 0]).max() < 8


def test_alpha_is_laid_on_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, :, 0] = 200
    rgba[0, :, 3], rgba[1, :, 3] = 255, 51
    decoded = read_image(encode(Image.fromarray(rgba), "PNG"))
    np.testing.assert_array_equal(decoded[0, 0], [200, 0, 0])
    np.testing.assert_allclose(decoded[1, 0], [0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255], atol=1)
    np.testing.assert_array_equal(decoded[2, 0], [255, 255, 255])


def test_transparent_palette_colour_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert (read_image(encode(image, "PNG", transparency=1)) == 255).all()


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a.transpose(1, 0, 2)[::-1, ::-1]),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_turns_the_pixels(photo: np.ndarray, orientation: int, upright) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(photo), "PNG", exif=exif)), upright(photo))
    jpeg = read_image(encode(Image.fromarray(photo), "JPEG", exif=exif, quality=95))
    assert np.abs(jpeg.astype(int) - upright(photo)).mean() < 6


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_truncated_files_are_refused(fmt: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), fmt)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError) as caught:
        read_image(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [1, 3, 8, 20, 100, 400])
def test_any_cut_of_a_jpeg_is_an_image_error(photo: np.ndarray, length: int) -> None:
    with pytest.raises(ImageError):
        read_image(encode(Image.fromarray(photo), "JPEG")[:length])


def test_random_damage_gives_an_image_or_an_image_error(photo: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for fmt in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        data = encode(Image.fromarray(photo), fmt)
        for _ in range(40):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 8):
                damaged[place] = rng.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert read_image(bytes(damaged)).ndim == 3
                except ImageError:
                    refused += 1
    assert refused > 20


def test_reasons_for_what_is_no_image(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.write_bytes(b"")
    text.write_text("not pixels")
    cases: list[tuple[str | Path | bytes, str]] = [
        (empty, "empty file"),
        (b"", "empty file"),
        (text, "not an image"),
        (tmp_path / "none.jpg", "no such file"),
        (tmp_path, "not a file"),
        ("https://example.org/a.jpg", "no such file"),
    ]
    for source, reason in cases:
        with pytest.raises(ImageError) as caught:
            read_image(source)
        assert reason in caught.value.reason
        assert isinstance(caught.value, InputError)


def test_formats_that_start_programs_are_refused() -> None:
    with pytest.raises(ImageError, match="not an image"):
        read_image(encode(Image.new("RGB", (8, 8)), "EPS"))


def test_one_pixel_is_too_small(photo: np.ndarray) -> None:
    with pytest.raises(ImageError, match="too small: 1x1"):
        read_image(encode(Image.new("RGB", (1, 1)), "PNG"))
    with pytest.raises(ImageError, match="too small: 36x24"):
        read_image(encode(Image.fromarray(photo), "PNG"), ImageLimits(min_side_px=25))


def test_huge_images_are_refused_by_their_header(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(one_bit_png(20_000, 20_000))
    assert path.stat().st_size < 400_000

    def no_decoding(image: ImageFile.ImageFile) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    before = peak_mb()
    with pytest.raises(ImageError, match=r"too large: 20000x20000 is more than 250000000 pixels; raise images\.max"):
        read_image(str(path))
    assert peak_mb() - before < 20


def test_own_limit_comes_before_decoding(photo: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"too large: 36x24 is more than 863 pixels; raise images\.max_pixels"):
        read_image(encode(Image.fromarray(photo), "PNG"), ImageLimits(max_pixels=863))
    assert read_image(encode(Image.fromarray(photo), "PNG"), ImageLimits(max_pixels=864)).shape == (24, 36, 3)


def test_limits_are_checked() -> None:
    with pytest.raises(InputError, match="max_pixels"):
        ImageLimits(max_pixels=10**9)
    with pytest.raises(InputError, match="min_side_px"):
        ImageLimits(min_side_px=0)


def test_image_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageError("too small", "a.png", transient=True)))  # noqa: S301 - our own bytes
    assert (error.reason, str(error), error.transient) == ("too small", "a.png: too small", True)

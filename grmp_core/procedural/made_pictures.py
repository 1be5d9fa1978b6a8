"""Pictures that no camera took, made by script: examples of what is unlike photos.

Charts, pages of text, flat and shaded drawings, coloured fields, grey scans and patterns; uint8 RGB of various sizes.
They are crude on purpose. What tells them from photos has to be what all of them share.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_picture(kind: str, seed: int) -> np.ndarray:
    """The picture of a kind of `MADE_KINDS` and a seed: uint8 RGB (H, W, 3), 360 to 800 px high, 420 to 1000 wide."""
    rng = np.random.default_rng([seed, list(MADE_KINDS).index(kind)])
    return MADE_KINDS[kind](rng, int(rng.integers(360, 801)), int(rng.integers(420, 1001)))


def _chart(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Axes with lines, bars or points of several colours, on light or dark ground."""
    paper, ink = ((25,) * 3, (230,) * 3) if rng.random() < 0.2 else ((255,) * 3, (20,) * 3)
    image = Image.new("RGB", (width, height), paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(int(rng.integers(10, 18)))
    left, top, right, bottom = 60, 40, width - 30, height - 50
    draw.rectangle((left, top, right, bottom), outline=ink)
    for y in np.linspace(top, bottom, 6):
        draw.line((left, y, right, y), fill=(128,) * 3)
        draw.text((8, y - 6), f"{rng.uniform(0, 100):.1f}", fill=ink, font=font)
    draw.text((width // 3, 10), _words(rng, 4), fill=ink, font=font)
    look = rng.integers(3)
    for _ in range(int(rng.integers(1, 5))):
        colour, count = _colour(rng), int(rng.integers(10, 80))
        xs = np.linspace(left, right, count)
        ys = top + (bottom - top) * (0.5 + 0.4 * np.tanh(np.cumsum(rng.normal(0, 0.3, count))))
        if look == 0:
            draw.line(list(zip(xs, ys, strict=True)), fill=colour, width=int(rng.integers(1, 5)))
        for x, y in zip(xs if look == 1 else rng.uniform(left, right, count), ys, strict=True):
            if look == 1:
                draw.rectangle((x, y, x + 0.7 * (right - left) / count, bottom), fill=colour)
            elif look == 2:
                _disc(draw, x, y, rng.uniform(2, 8), colour)
    return np.asarray(image)


def _page(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Columns of text on paper, sometimes ruled."""
    white = int(rng.integers(235, 256))
    image = Image.new("RGB", (width, height), (white, white, int(white - rng.integers(0, 12))))
    draw, size_px = ImageDraw.Draw(image), int(rng.integers(9, 22))
    font, columns = ImageFont.load_default(size_px), int(rng.integers(1, 4))
    column_px = (width - 40) // columns
    letters = max(4, int(column_px / (0.55 * size_px)))
    for column in range(columns):
        y = 20.0
        while y < height - 20:
            line = _words(rng, 40)[: max(4, letters - int(rng.integers(0, 8)))]
            draw.text((20 + column * column_px, y), line, fill=(int(rng.integers(0, 60)),) * 3, font=font)
            y += size_px * (2.8 if rng.random() < 0.1 else 1.4)
    if rng.random() < 0.3:
        for y in range(30, height, int(rng.integers(25, 60))):
            draw.line((10, y, width - 10, y), fill=(150,) * 3)
    return np.asarray(image)


def _flat_drawing(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Shapes of one colour each, on a plain ground or a gradient."""
    down = np.linspace(0, rng.integers(2), height)[:, None, None]
    ground = np.array(_colour(rng)) * (1 - down) + np.array(_colour(rng)) * down
    image = Image.fromarray(np.repeat(ground, width, axis=1).astype(np.uint8))
    draw, largest = ImageDraw.Draw(image), rng.uniform(0.05, 0.35) * width
    for _ in range(int(rng.integers(8, 120))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.2, 1) * largest
        outline = _colour(rng) if rng.random() < 0.4 else None
        look = rng.integers(4)
        if look == 0:
            draw.polygon(_corners(rng, x, y, size), fill=_colour(rng), outline=outline)
        elif look == 1:
            draw.ellipse((x - size, y - size * rng.uniform(0.3, 1), x + size, y + size), _colour(rng), outline)
        elif look == 2:
            draw.rectangle((x - size, y - size / 2, x + size, y + size / 2), _colour(rng), outline)
        else:
            draw.line(_corners(rng, x, y, size), fill=_colour(rng), width=int(rng.integers(1, 12)))
    pixels = np.asarray(image)
    return cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.2)) if rng.random() < 0.5 else pixels


def _shaded_drawing(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Discs and polygons with shading, texture and grain, laid over each other."""
    image = np.array(_colour(rng)) * (0.5 + _cloud(rng, height, width, 1.5))[..., None]
    y_HW, x_HW = np.mgrid[:height, :width]
    coarse, fine = (_cloud(rng, height, width, rng.uniform(*falls)) for falls in ((0.5, 1.5), (0.2, 1)))
    sizes = np.minimum(rng.pareto(1.5, int(rng.integers(20, 200))) * 10 + 5, width / 4)
    for size in np.sort(sizes)[::-1]:
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        mask = np.zeros((height, width), np.uint8)
        if rng.integers(3) == 0:
            cv2.circle(mask, (int(x), int(y)), int(size), 1, -1)
        else:
            cv2.fillPoly(mask, [np.array(_corners(rng, x, y, size), dtype=np.int32)], 1)
        here = mask > 0
        shade = 1 + rng.uniform(-0.6, 0.6) * (x_HW[here] - x) / size + rng.uniform(-0.4, 0.4) * (y_HW[here] - y) / size
        texture = 1 + rng.uniform(0, 0.8) * (coarse[here] - 0.5) + rng.uniform(0, 0.5) * (fine[here] - 0.5)
        image[here] = np.array(_colour(rng)) * (shade * texture)[:, None]
    image += rng.normal(0, rng.uniform(0, 6), image.shape)
    return _bytes(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1)))


def _field(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random field in a colour map, or one in each channel."""
    fields = [_cloud(rng, height, width, rng.uniform(0.6, 2.2)) for _ in range(3)]
    if rng.random() < 0.6:
        return np.ascontiguousarray(cv2.applyColorMap(_bytes(255 * fields[0]), int(rng.integers(0, 20)))[..., ::-1])
    return _bytes(255 * np.stack(fields, axis=2))


def _scan(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Soft grey ellipses with grain, as of an instrument that looks through things."""
    y_HW, x_HW = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    grey = np.full((height, width), rng.uniform(0, 0.5))
    for _ in range(int(rng.integers(3, 14))):
        (x, y), (a, b), turn = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.05, 0.9, 2), rng.uniform(0, np.pi)
        along = (x_HW - x) * np.cos(turn) + (y_HW - y) * np.sin(turn)
        across = (y_HW - y) * np.cos(turn) - (x_HW - x) * np.sin(turn)
        inside = (1 - (along / a) ** 2 - (across / b) ** 2) * rng.uniform(3, 40)
        grey += rng.uniform(-0.3, 0.4) * (1 + np.tanh(inside / 2)) / 2
    grey *= 1 + rng.uniform(0, 0.5) * (_cloud(rng, height, width, rng.uniform(0.5, 1.5)) - 0.5)
    soft = cv2.GaussianBlur(grey, (0, 0), width / rng.uniform(100, 500))
    grey = soft + rng.normal(0, rng.uniform(0, 0.04), grey.shape)
    if rng.random() < 0.3:
        grey *= x_HW**2 + y_HW**2 < 0.9
    return np.repeat(_bytes(255 * _stretched(grey))[..., None], 3, axis=2)


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Cells or bars of two colours."""
    cell = int(rng.integers(4, 40))
    cells = rng.integers(0, 2, (height // cell + 1, width // cell + 1)).repeat(cell, axis=0).repeat(cell, axis=1)
    cells = cells[:height, :width]
    if rng.random() < 0.3:
        cells = cells[:1].repeat(height, axis=0)
    return np.where(cells[..., None] > 0, _colour(rng), _colour(rng)).astype(np.uint8)


MADE_KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "chart": _chart,
    "page": _page,
    "flat drawing": _flat_drawing,
    "shaded drawing": _shaded_drawing,
    "field": _field,
    "scan": _scan,
    "pattern": _pattern,
}
"""Name -> picture from a generator, a height and a width."""


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join("".join(rng.choice(list(_LETTERS), int(rng.integers(2, 9)))) for _ in range(count))


def _corners(rng: np.random.Generator, x: float, y: float, size: float) -> list[tuple[float, float]]:
    turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    return [(float(x + size * np.cos(turn)), float(y + size * np.sin(turn))) for turn in turns]


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _cloud(rng: np.random.Generator, height: int, width: int, fall: float) -> np.ndarray:
    """A random field in [0, 1] whose amplitude falls with that power of the frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / frequency**fall
    return _stretched(np.fft.irfft2(spectrum, s=(height, width)))


def _stretched(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / max(float(np.ptp(values)), 1e-9)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)

"""Pictures that are no photos, made by script: drawn scenes, screenshots, and X-ray-like images. All uint8 RGB."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from grmp_core.procedural.scenes import reference

_WORDS = ("the", "of", "quality", "image", "score", "window", "report", "value", "open", "file", "edit", "help", "rate")


def drawn(seed: int) -> np.ndarray:
    """A procedural scene."""
    return reference(10_000 + seed, 480, 640)


def screenshot(seed: int) -> np.ndarray:
    """A window with a title bar, a side bar, buttons, paragraphs of text and a chart, light or dark."""
    rng = np.random.default_rng([seed, 1])
    width, height = int(rng.integers(640, 1281)), int(rng.integers(480, 801))
    dark = bool(rng.integers(2))
    paper, ink = ((30, 33, 40), (220, 222, 226)) if dark else ((250, 250, 252), (30, 34, 40))
    accent = tuple(int(v) for v in rng.integers(40, 220, 3))
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 36), fill=accent)
    side = int(rng.integers(120, 240))
    draw.rectangle((0, 36, side, height), fill=tuple(int(0.92 * v) + (12 if dark else 0) for v in paper))
    for row in range(12):
        draw.text((12, 56 + 34 * row), _line(rng, 2), fill=ink, font=ImageFont.load_default(15))
    y = 60
    while y < height - 40:
        if rng.random() < 0.15:
            draw.rounded_rectangle((side + 30, y, side + 150, y + 32), 6, fill=accent)
            y += 48
        elif rng.random() < 0.12:
            values = rng.uniform(10, 80, 16)
            for i, value in enumerate(values):
                x = side + 30 + 22 * i
                draw.rectangle((x, y + 90 - value, x + 15, y + 90), fill=accent)
            y += 110
        else:
            draw.text((side + 30, y), _line(rng, 14), fill=ink, font=ImageFont.load_default(int(rng.integers(13, 20))))
            y += 26
    return np.asarray(image)


def _line(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(_WORDS, words))


def x_ray(seed: int) -> np.ndarray:
    """A chest-like grey image: two dark lungs, ribs, a spine, a heart's shadow, film grain and a marker."""
    rng = np.random.default_rng([seed, 2])
    size = int(rng.integers(512, 901))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = np.exp(-((x / 0.85) ** 6) - ((y / 1.1) ** 8))
    density = 0.25 + 0.35 * body
    for side in (-1, 1):
        lung = np.exp(
            -(((x - side * rng.uniform(0.38, 0.44)) / 0.28) ** 4) - (((y - 0.02) / rng.uniform(0.5, 0.62)) ** 4)
        )
        density -= 0.3 * lung
    density += 0.3 * np.exp(-((x / 0.08) ** 2)) * body
    density += 0.2 * np.exp(-(((x + 0.12) / 0.2) ** 2) - (((y - 0.25) / 0.25) ** 2))
    for rib in np.linspace(-0.65, 0.6, int(rng.integers(7, 11))):
        density += 0.09 * np.exp(-(((y - rib - 0.35 * x**2 + 0.12) / 0.03) ** 2)) * body
    density = cv2.GaussianBlur(density, None, size / rng.uniform(150, 400))
    density += rng.normal(0, rng.uniform(0.005, 0.02), density.shape)
    grey = (255 * np.clip(density * rng.uniform(0.9, 1.2), 0, 1)).astype(np.uint8)
    cv2.putText(grey, "LR"[seed % 2], (size // 16, size // 8), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 3)
    return np.repeat(grey[..., None], 3, axis=2)


KINDS: dict[str, Callable[[int], np.ndarray]] = {"drawn": drawn, "screenshot": screenshot, "x-ray": x_ray}
"""Name -> picture of a seed."""

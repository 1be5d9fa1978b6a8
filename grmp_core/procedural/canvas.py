"""A canvas for procedural images: anti-aliased shapes of flat colour, each with its own shading and texture.

Shapes are drawn into three flat maps (colour, light, number of the shape); `Canvas.render` then looks up every shape's
shading and texture strengths by its number, once for the whole image. Positions are in *canvas units*: x and y in
heights of the image, (0, 0) in its middle, y down. Colours are RGB factors in [0, 1].
"""

from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT = 4  # fractional bits of the coordinates that OpenCV's drawing takes
_LIGHT_FLOOR = 110
_MEAN_TARGET = 0.46


@dataclass(frozen=True, kw_only=True)
class Material:
    """Texture of a shape's surface, in log-luminance: 0.1 is about 10 % brighter."""

    shading: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Quadratic over the image: s0 (x^2 + y^2) + s1 x + s2 y + s3."""
    fractal: float = 0.0
    """Strength of noise with equal contrast in every octave, as natural scenes have it."""
    fine: float = 0.0
    """Strength of the noise's three finest octaves."""
    stripes: float = 0.0
    """Strength of bent stripes, as of wood or cloth."""
    ridges: float = 0.0
    """Strength of creased noise, as of rock or bark."""
    clouds: float = 0.0
    """Strength of soft patches."""
    tint: float = 0.0
    """Strength of slow changes of hue."""

    def row(self) -> tuple[float, ...]:
        """The shape's line of the lookup table."""
        return (*self.shading, self.fractal, self.fine, self.stripes, self.ridges, self.clouds, self.tint)


def slope(x: float, y: float, per_x: float, per_y: float) -> tuple[float, float, float, float]:
    """Shading that is 0 at (x, y) and changes linearly, by `per_x` and `per_y` a unit."""
    return (0.0, per_x, per_y, -per_x * x - per_y * y)


def ball(x: float, y: float, radius: float, strength: float) -> tuple[float, float, float, float]:
    """Shading brightest (`strength`) at (x, y) that falls by three times `strength` at `radius` from there."""
    curve = 3 * strength / radius**2
    return (-curve, 2 * curve * x, 2 * curve * y, strength - curve * (x * x + y * y))


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Corners of an upright rectangle, (4, 2), clockwise from the top left."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)


def warp(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points of the unit square, (N, 2), to where perspective puts them in the quadrilateral `corners`, (4, 2)."""
    unit = rectangle(0, 0, 1, 1).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(unit, corners.astype(np.float32))
    return cv2.perspectiveTransform(points[None].astype(np.float64), matrix)[0]


class Canvas:
    """An image under construction; draw from back to front, then `render`."""

    def __init__(self, rng: np.random.Generator, height_px: int, width_px: int) -> None:
        self.rng = rng
        self.height_px, self.width_px = height_px, width_px
        self.right = width_px / height_px / 2
        """x of the right edge; the left one is at -right, top and bottom at -0.5 and 0.5."""
        self._colour = np.zeros((height_px, width_px, 3), np.uint8)
        self._light = np.full((height_px, width_px), 255, np.uint8)
        self._shape = np.zeros((height_px, width_px), np.int32)
        self._materials: list[tuple[float, ...]] = [Material().row()]

    def fill(self, points: np.ndarray, colour: np.ndarray, material: Material, shadow: float = 0.0) -> None:
        """Paint a closed polygon, points (N, 2); `shadow` is how far it throws one, in canvas units."""
        corners = self._to_pixels(points)
        if shadow > 0:
            cast = self._to_pixels(points + np.array([shadow * 0.7, shadow]))
            cv2.fillPoly(self._light, [cast], (_LIGHT_FLOOR,), lineType=cv2.LINE_8, shift=_SHIFT)
        cv2.fillPoly(self._light, [corners], (255,), lineType=cv2.LINE_8, shift=_SHIFT)
        cv2.fillPoly(self._colour, [corners], _bytes(colour), lineType=cv2.LINE_AA, shift=_SHIFT)
        cv2.fillPoly(self._shape, [corners], (len(self._materials),), lineType=cv2.LINE_8, shift=_SHIFT)
        self._materials.append(material.row())

    def lines(self, strokes: list[np.ndarray], colour: np.ndarray, thickness_px: int = 1) -> None:
        """Draw open lines, each (N, 2), over what is there; they take the shading of what lies below."""
        pixels = [self._to_pixels(stroke) for stroke in strokes]
        cv2.polylines(self._colour, pixels, False, _bytes(colour), thickness_px, cv2.LINE_AA, _SHIFT)

    def render(self) -> np.ndarray:
        """The image, uint8 RGB (height_px, width_px, 3), exposed to a middle grey mean with little clipped."""
        table = np.asarray(self._materials, np.float32)
        y, x = np.mgrid[0 : self.height_px, 0 : self.width_px].astype(np.float32)
        x = (x - self.width_px / 2) / self.height_px
        y = y / self.height_px - 0.5
        noise, tint = _textures(self.rng, self.height_px, self.width_px, x, y)
        log_light = np.zeros_like(x)
        for column, basis in enumerate([x * x + y * y, x, y, np.ones_like(x), *noise]):
            if np.any(table[:, column]):
                log_light += table[:, column][self._shape] * basis
        # The blurred light map gives soft shadows; its dark rims stand in for occlusion where shapes touch.
        shadow = cv2.GaussianBlur(self._light, (0, 0), self.height_px / 160).astype(np.float32) / 255
        light = np.exp(np.clip(log_light, -2.5, 1.5)) * shadow
        image = self._colour.astype(np.float32) * (light / 255)[:, :, None]
        image *= np.exp(tint * table[:, -1][self._shape][:, :, None])
        return _expose(image)

    def _to_pixels(self, points: np.ndarray) -> np.ndarray:
        scale = self.height_px * (1 << _SHIFT)
        return np.round((points + np.array([self.right, 0.5])) * scale).astype(np.int32)


def _textures(
    rng: np.random.Generator, height_px: int, width_px: int, x: np.ndarray, y: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Five noise maps in the order of `Material`, each (H, W) of about unit contrast, and the tint (H, W, 3)."""
    octaves = [_octave(rng, height_px, width_px, 1 << k) for k in range(8)]
    fractal = sum(octaves) / np.float32(np.sqrt(8))
    fine = (octaves[0] + octaves[1] + octaves[2]) / np.float32(np.sqrt(3))
    slow = (octaves[5] + octaves[6] + octaves[7]) / np.float32(np.sqrt(3))
    angle, waves = rng.uniform(0, np.pi), rng.uniform(14, 40)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    stripes = np.sin(np.float32(2 * np.pi * waves) * along + 3 * slow) + 0.5 * fine
    creased = [1.5 - 2.5 * np.abs(octaves[k][::-1, ::-1]) for k in (2, 3, 4, 5)]
    ridges = sum(creased) / 2 + 0.35 * fine
    clouds = np.tanh(octaves[7][:, ::-1] + octaves[6] + 0.6 * octaves[5] + 0.3 * octaves[4] + 0.15 * octaves[3])
    tint = np.stack([slow, slow[::-1], slow[:, ::-1]], axis=2)
    tint -= tint.mean(axis=2, keepdims=True)
    return [fractal, fine, stripes, ridges, clouds], tint


def _octave(rng: np.random.Generator, height_px: int, width_px: int, cell_px: int) -> np.ndarray:
    grid = rng.standard_normal((height_px // cell_px + 3, width_px // cell_px + 3), dtype=np.float32)
    if cell_px == 1:
        return grid[:height_px, :width_px]
    large = cv2.resize(grid, None, fx=cell_px, fy=cell_px, interpolation=cv2.INTER_CUBIC)
    return large[cell_px : cell_px + height_px, cell_px : cell_px + width_px] * np.float32(1.25)


def _expose(image: np.ndarray) -> np.ndarray:
    sample = image[::4, ::4]
    white = max(float(np.quantile(sample.max(axis=2), 0.985)), 1e-3)
    mean = min(max(float(np.clip(sample / white, 0, 1).mean()), 0.02), 0.95)
    gamma = float(np.clip(np.log(_MEAN_TARGET) / np.log(mean), 0.5, 1.6))
    exposed = cv2.pow(np.clip(image / white, 0, 1.2), gamma)
    return np.round(250 * np.minimum(exposed, 1.0)).astype(np.uint8)


def _bytes(colour: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(np.round(np.asarray(colour) * 255), 0, 255))

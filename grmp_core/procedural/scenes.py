"""Pristine images drawn procedurally, so that tasks can be synthesized with nothing to download.

Four kinds of scene in turn, parts of them laid over each other: fractal landscapes under a smooth sky, dead leaves
(overlapping shapes with sizes of a power law, which have the edge and spectrum statistics of photos), facades with
windows and lettering, and shaded balls on a table. Every image has sharp edges, fine texture and smooth gradients at
once, since blur, noise, blocking and banding each need one of them to be seen.
"""

import colorsys

import numpy as np

from grmp_core.errors import InputError
from grmp_core.procedural.canvas import Canvas, Material, ball, rectangle, slope, warp

MIN_SIDE_PX = 64
"""Of a picture that is drawn."""
KINDS = ("landscape", "leaves", "street", "still life")
"""Kinds of scene; the image of a seed is of kind `KINDS[seed % 4]`."""
_EARTH = (0.06, 0.09, 0.12, 0.17, 0.22, 0.28, 0.33)
# Warm hues twice, as in photos; magenta is rare.
_ALL_HUES = (0.0, 0.03, 0.06, 0.08, 0.1, 0.13, 0.17, 0.25, 0.33, 0.42, 0.5, 0.55, 0.6, 0.64, 0.7, 0.78, 0.92)
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 40)), np.sin(np.linspace(0, 2 * np.pi, 40))], axis=1)[:-1]


def reference(seed: int, height_px: int = 384, width_px: int = 512) -> np.ndarray:
    """One pristine image, uint8 RGB (height_px, width_px, 3); the same seed and size give the same image.

    Equal to the bit for the same versions of NumPy and OpenCV on the same kind of processor.

    Raises:
        InputError: negative seed, or a side below 64 px.
    """
    if seed < 0 or min(height_px, width_px) < MIN_SIDE_PX:
        raise InputError(f"reference: seed {seed} must be 0 or more, {width_px}x{height_px} at least {MIN_SIDE_PX} px")
    rng = np.random.default_rng([seed, 0x6772])
    canvas = Canvas(rng, height_px, width_px)
    draw_by_kind = (_landscape, _leaves_scene, _street, _still_life)
    draw_by_kind[seed % len(KINDS)](canvas)
    return canvas.render()


def reference_id(seed: int) -> str:
    """The id under which splits keep all distorted versions of one reference together."""
    return f"procedural/{seed:06d}"


def _landscape(canvas: Canvas) -> None:
    rng = canvas.rng
    horizon = rng.uniform(-0.25, 0.05)
    _sky(canvas, horizon)
    haze, near = _colour(rng, 0.2, 0.85, _EARTH), _colour(rng, 0.6, 0.45, _EARTH)
    n_ridges = int(rng.integers(2, 6))
    for k in range(n_ridges):
        depth = (k + 1) / n_ridges
        top = horizon + (0.5 - horizon) * (k / n_ridges) ** 1.3
        line = _fractal_line(canvas, top, rng.uniform(0.04, 0.22) * (1.2 - 0.7 * depth))
        colour = haze * (1 - depth) + near * depth * rng.uniform(0.7, 1.2)
        material = Material(
            shading=slope(0, top, rng.uniform(-0.3, 0.3), rng.uniform(-0.8, 0.8)),
            ridges=rng.uniform(0.1, 0.28) * depth,
            fractal=0.12,
            fine=0.09 * depth,
            tint=rng.uniform(0.02, 0.06),
        )
        canvas.fill(line, colour, material)
        if k == n_ridges // 2 and rng.random() < 0.6:
            _house(canvas, rng.uniform(-0.4, 0.4), top + 0.12, rng.uniform(0.08, 0.2))
    if rng.random() < 0.7:
        _grass(canvas, int(rng.integers(80, 260)))
    if rng.random() < 0.5:
        _scatter_leaves(canvas, int(rng.integers(20, 60)), 0.008, 0.05, low=0.1)


def _leaves_scene(canvas: Canvas) -> None:
    rng = canvas.rng
    _backdrop(canvas, _colour(rng, 0.4, 0.5), 0.6)
    _scatter_leaves(canvas, int(rng.integers(80, 330)), rng.uniform(0.035, 0.055), 0.6)
    _scatter_leaves(canvas, int(rng.integers(0, 60)), 0.008, 0.1)
    if rng.random() < 0.4:
        _sign(canvas, rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), rng.uniform(0.2, 0.35))


def _street(canvas: Canvas) -> None:
    rng = canvas.rng
    _sky(canvas, 0.3)
    x = -canvas.right - rng.uniform(0, 0.2)
    while x < canvas.right:
        width, top = rng.uniform(0.25, 0.6), rng.uniform(-0.48, -0.05)
        tilt = rng.uniform(-0.1, 0.1)
        corners = np.array([[x, top - tilt], [x + width, top + tilt], [x + width, 0.42], [x, 0.42]])
        _facade(canvas, corners)
        x += width * rng.uniform(0.9, 1.05)
    ground = rectangle(-canvas.right - 0.1, 0.36, canvas.right + 0.1, 0.6)
    canvas.fill(ground, _colour(rng, 0.1, 0.45), Material(shading=slope(0, 0.4, 0.2, -1.5), fractal=0.1, fine=0.14))
    if rng.random() < 0.7:
        _sign(canvas, rng.uniform(-0.35, 0.35), rng.uniform(-0.1, 0.2), rng.uniform(0.15, 0.3))
    if rng.random() < 0.5:
        _scatter_leaves(canvas, int(rng.integers(15, 50)), 0.008, 0.06, low=0.15)
    if rng.random() < 0.5:
        _wires(canvas)


def _still_life(canvas: Canvas) -> None:
    rng = canvas.rng
    edge = rng.uniform(-0.15, 0.2)
    _backdrop(canvas, _colour(rng, rng.uniform(0.1, 0.6), 0.8), 1.2)
    table = Material(shading=slope(0, edge, 0.3, -0.9), stripes=rng.uniform(0, 0.2), fine=0.1, fractal=0.08, tint=0.1)
    canvas.fill(rectangle(-canvas.right - 0.1, edge, canvas.right + 0.1, 0.6), _colour(rng, 0.5, 0.6), table)
    for _ in range(int(rng.integers(2, 7))):
        radius = rng.uniform(0.06, 0.26)
        x, y = rng.uniform(-canvas.right, canvas.right), edge + rng.uniform(-0.1, 0.35)
        _ball(canvas, x, y, radius)
    if rng.random() < 0.6:
        _sign(canvas, rng.uniform(-0.4, 0.4), rng.uniform(0, 0.3), rng.uniform(0.15, 0.35))
    if rng.random() < 0.6:
        _scatter_leaves(canvas, int(rng.integers(5, 40)), 0.01, 0.08, low=edge)


def _sky(canvas: Canvas, horizon: float) -> None:
    rng = canvas.rng
    hue = rng.choice([0.56, 0.58, 0.6, 0.62, 0.07, 0.1])
    colour = np.array(colorsys.hsv_to_rgb(float(hue), float(rng.uniform(0.15, 0.55)), 0.95))
    clouds = rng.uniform(0.05, 0.3) if rng.random() < 0.6 else 0.0
    shading = slope(0, horizon, rng.uniform(-0.3, 0.3), rng.uniform(0.2, 0.9))
    edge = canvas.right + 0.1
    canvas.fill(rectangle(-edge, -0.6, edge, 0.6), colour, Material(shading=shading, clouds=clouds, tint=0.04))


def _backdrop(canvas: Canvas, colour: np.ndarray, strength: float) -> None:
    rng = canvas.rng
    edge = canvas.right + 0.1
    shading = ball(rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.1), 1.2, strength / 3)
    canvas.fill(rectangle(-edge, -0.6, edge, 0.6), colour, Material(shading=shading, tint=0.03))


def _scatter_leaves(canvas: Canvas, n_leaves: int, smallest: float, largest: float, low: float = -0.55) -> None:
    rng = canvas.rng
    # Radii of density r^-3 make the picture look alike at every scale; the largest lie at the back.
    u = rng.random(n_leaves)
    radii = np.sort((smallest**-2 * (1 - u) + largest**-2 * u) ** -0.5)[::-1]
    palette = [_colour(rng, rng.uniform(0.2, 0.9), rng.uniform(0.25, 1.0)) for _ in range(7)]
    for radius in radii:
        x, y = rng.uniform(-canvas.right, canvas.right), rng.uniform(low, 0.55)
        colour = np.clip(palette[rng.integers(7)] * rng.uniform(0.75, 1.25, 3), 0.03, 1)
        outline = _leaf(rng, radius) + np.array([x, y])
        canvas.fill(outline, colour, _leaf_material(rng, x, y, radius), shadow=min(radius / 5, 0.02))


def _leaf(rng: np.random.Generator, radius: float) -> np.ndarray:
    kind = rng.integers(4)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if kind == 0:
        shape = _CIRCLE * [1.0, rng.uniform(0.4, 1.0)]
    elif kind == 1:
        aspect = rng.uniform(0.25, 1.0)
        shape = rectangle(-1, -aspect, 1, aspect)
    elif kind == 2:
        n_corners = int(rng.integers(3, 8))
        corners = np.sort(rng.uniform(0, 2 * np.pi, n_corners))
        shape = np.stack([np.cos(corners), np.sin(corners)], axis=1)
    else:
        # A leaf's outline: two arcs that meet in points, with lobes.
        t = np.arctan2(_CIRCLE[:, 1], _CIRCLE[:, 0])
        lobes = 1 + 0.18 * np.sin(rng.integers(3, 9) * t)
        shape = np.stack([np.cos(t), np.sin(t) * np.abs(np.sin(t)) * rng.uniform(0.4, 0.9)], axis=1) * lobes[:, None]
    return radius * shape @ turn.T


def _leaf_material(rng: np.random.Generator, x: float, y: float, radius: float) -> Material:
    shading = ball(x - 0.3 * radius, y - 0.3 * radius, 1.5 * radius, rng.uniform(0.05, 0.3))
    if rng.random() < 0.5:
        per_x, per_y = rng.uniform(-0.35, 0.35, 2) / radius
        shading = slope(x, y, per_x, per_y)
    strength = rng.uniform(0, 0.25)
    kinds = [{"fractal": strength}, {"fine": strength}, {"stripes": strength}, {"ridges": strength}, {}]
    return Material(shading=shading, tint=rng.uniform(0, 0.2), **kinds[rng.integers(len(kinds))])


def _facade(canvas: Canvas, corners: np.ndarray) -> None:
    rng = canvas.rng
    middle = corners.mean(axis=0)
    wall = Material(
        shading=slope(middle[0], middle[1], rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.6)),
        fractal=rng.uniform(0.03, 0.12),
        fine=rng.uniform(0.02, 0.12),
        tint=0.04,
    )
    colour = _colour(rng, rng.uniform(0.05, 0.6), rng.uniform(0.5, 0.95))
    canvas.fill(corners, colour, wall, shadow=0.012)
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(3, 9))
    if rng.random() < 0.5:
        _bricks(canvas, corners, colour * 0.75, int(rng.integers(18, 40)))
    glass = _colour(rng, 0.3, rng.uniform(0.15, 0.5))
    wide, tall = rng.uniform(0.35, 0.75), rng.uniform(0.4, 0.75)
    for row in range(rows):
        for column in range(columns):
            u, v = (column + 0.5) / columns, (row + 0.5) / rows
            half = np.array([wide / columns, tall / rows]) / 2
            frame = warp(corners, rectangle(u - half[0], v - half[1], u + half[0], v + half[1]))
            pane = Material(
                shading=slope(frame[0, 0], frame[0, 1], rng.uniform(-4, 4), rng.uniform(-8, 8)), clouds=0.15
            )
            canvas.fill(frame, np.clip(glass * rng.uniform(0.5, 2.0), 0, 1), pane)
            canvas.lines([frame[[0, 1, 2, 3, 0]], (frame[[0, 3]] + frame[[1, 2]]) / 2], np.clip(colour * 1.2, 0, 1))


def _bricks(canvas: Canvas, corners: np.ndarray, colour: np.ndarray, n_rows: int) -> None:
    strokes = [np.array([[0, v], [1, v]]) for v in np.linspace(0, 1, n_rows + 1)]
    for row in range(n_rows):
        start = 0.5 * (row % 2)
        columns = (np.arange(n_rows // 2) + start) / (n_rows // 2)
        strokes += [np.array([[u, row / n_rows], [u, (row + 1) / n_rows]]) for u in columns]
    canvas.lines([warp(corners, stroke) for stroke in strokes], colour)


def _house(canvas: Canvas, x: float, y: float, size: float) -> None:
    corners = rectangle(x - size, y - size, x + size, y + size * 0.6)
    _facade(canvas, corners)
    roof = np.array([[x - size * 1.15, y - size], [x, y - 1.8 * size], [x + size * 1.15, y - size]])
    canvas.fill(roof, _colour(canvas.rng, 0.7, 0.5), Material(shading=slope(x, y, 0.8, 1.0), stripes=0.2, fine=0.08))


def _ball(canvas: Canvas, x: float, y: float, radius: float) -> None:
    rng = canvas.rng
    shading = ball(x - 0.35 * radius, y - 0.4 * radius, 1.5 * radius, rng.uniform(0.25, 0.5))
    surface = rng.choice(["", "stripes", "fractal", "ridges"])
    texture = {surface: rng.uniform(0.1, 0.25)} if surface else {}
    colour = _colour(rng, rng.uniform(0.5, 0.95), rng.uniform(0.6, 1.0))
    canvas.fill(radius * _CIRCLE + [x, y], colour, Material(shading=shading, tint=0.1, **texture), shadow=radius / 5)
    glint = _CIRCLE * [0.14 * radius, 0.09 * radius] + [x - 0.4 * radius, y - 0.45 * radius]
    canvas.fill(glint, np.full(3, 0.97), Material())


def _sign(canvas: Canvas, x: float, y: float, half_width: float) -> None:
    rng = canvas.rng
    half_height = half_width * rng.uniform(0.3, 0.8)
    corners = rectangle(x - half_width, y - half_height, x + half_width, y + half_height)
    corners = corners + rng.uniform(-0.12, 0.12, (4, 2)) * half_width
    light = rng.random() < 0.6
    paper = _colour(rng, 0.25, 0.95) if light else _colour(rng, 0.7, 0.3)
    canvas.fill(corners, paper, Material(shading=slope(x, y, *rng.uniform(-0.6, 0.6, 2)), fine=0.02), shadow=0.02)
    ink = paper * 0.15 if light else np.clip(paper + 0.6, 0, 1)
    n_lines = int(rng.integers(2, 7))
    for line in range(n_lines):
        letters = _lettering(rng, 0.08, (line + 0.2) / n_lines, 0.65 / n_lines, half_width / half_height)
        canvas.lines([warp(corners, letter) for letter in letters], ink, 2 if n_lines < 4 else 1)


def _lettering(rng: np.random.Generator, left: float, top: float, height: float, aspect: float) -> list[np.ndarray]:
    """Strokes between the points of a 3x3 grid a letter: the edges of text without a font."""
    width = 0.6 * height / aspect
    letters = []
    u = left
    while u + width < 0.94:
        if rng.random() < 0.85:
            nodes = rng.integers(0, 3, (int(rng.integers(3, 6)), 2)) / 2
            letters.append(nodes * [width * 0.75, height] + [u, top])
        u += width
    return letters


def _grass(canvas: Canvas, n_blades: int) -> None:
    rng = canvas.rng
    colours = [_colour(rng, 0.7, value) for value in (0.25, 0.5, 0.8)]
    for colour in colours:
        n_roots = n_blades // len(colours)
        roots = np.stack([rng.uniform(-canvas.right, canvas.right, n_roots), rng.uniform(0.3, 0.55, n_roots)], axis=1)
        lean = np.stack([rng.normal(0, 0.03, len(roots)), -rng.uniform(0.05, 0.2, len(roots))], axis=1)
        blades = [np.stack([root, root + tip * [0.3, 0.6], root + tip]) for root, tip in zip(roots, lean, strict=True)]
        canvas.lines(blades, colour, int(rng.integers(1, 3)))


def _wires(canvas: Canvas) -> None:
    rng = canvas.rng
    x = np.linspace(-canvas.right - 0.05, canvas.right + 0.05, 30)
    for _ in range(int(rng.integers(1, 5))):
        y = rng.uniform(-0.5, 0.0) + rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.1, -0.02) * np.cos(2 * x)
        canvas.lines([np.stack([x, y], axis=1)], np.full(3, 0.08))


def _fractal_line(canvas: Canvas, top: float, roughness: float) -> np.ndarray:
    """A closed polygon whose upper edge is midpoint-displaced around y = `top` and which reaches below the image."""
    y = canvas.rng.normal(0, roughness, 3)
    for k in range(1, 8):
        middle = (y[1:] + y[:-1]) / 2 + canvas.rng.normal(0, roughness * 0.55**k, len(y) - 1)
        y = np.insert(y, np.arange(1, len(y)), middle)
    x = np.linspace(-canvas.right - 0.05, canvas.right + 0.05, len(y))
    edge = np.stack([x, top + y], axis=1)
    return np.concatenate([edge, [[x[-1], 0.7], [x[0], 0.7]]])


def _colour(
    rng: np.random.Generator, saturation: float, value: float, hues: tuple[float, ...] = _ALL_HUES
) -> np.ndarray:
    hue = float(rng.choice(hues) + rng.normal(0, 0.025)) % 1.0
    return np.array(colorsys.hsv_to_rgb(hue, min(saturation * float(rng.uniform(0.7, 1.2)), 1.0), min(value, 1.0)))

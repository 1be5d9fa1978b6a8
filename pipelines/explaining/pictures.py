"""The picture of an explanation: the image with its costliest crop, and the map of its quality."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from grmp_core.explain.quality_map import QualityMap
from grmp_core.imaging.views import Pixels
from pipelines.rendering.palette import STYLE, WARM, to_png

_SHOWN_PX = 900
_LEAST_RANGE = 0.1
"""Qualities that the colours span, at least: a map without differences then looks like one."""


def picture_of(image_HW3: Pixels, found: QualityMap) -> bytes:
    """A PNG of three panels: image, quality, probability of no damage. Dark places of a map are low ones."""
    shown = Image.fromarray(image_HW3[:, :])
    shown.thumbnail((_SHOWN_PX, _SHOWN_PX))
    grey = np.asarray(shown.convert("L"))
    height_px, width_px = found.shape_px
    extent = (0, width_px, height_px, 0)
    maps = {"quality by place": found.quality_hw, "probability of no damage": found.undamaged_hw}
    with matplotlib.rc_context(STYLE):
        height = 0.6 + 4 * min(1.6, height_px / width_px)
        figure = Figure(figsize=(13, height), layout="constrained")
        left, *panels = figure.subplots(1, 3)
        left.imshow(np.asarray(shown), extent=extent)
        left.set_title("the crop that costs most", fontsize=9)
        for axes, (title, cells) in zip(panels, maps.items(), strict=True):
            low, high = float(cells.min()), float(cells.max())
            middle, reach = (low + high) / 2, max(high - low, _LEAST_RANGE) / 2
            scale = {"vmin": middle - reach, "vmax": middle + reach, "cmap": "viridis"}
            axes.imshow(grey, extent=extent, cmap="gray")
            colours = axes.imshow(cells, extent=extent, interpolation="bilinear", alpha=0.72, **scale)
            row, column = found.lowest(cells)
            axes.plot(column, row, marker="x", color=WARM, markersize=9, markeredgewidth=2.2)
            axes.set_title(title, fontsize=9)
            figure.colorbar(colours, ax=axes, shrink=0.7)
        crop = found.costliest
        for axes in (left, *panels):
            box = (crop.left_px, crop.top_px), crop.size_px, crop.size_px
            axes.add_patch(Rectangle(*box, fill=False, edgecolor=WARM, lw=1.8))
            axes.set_axis_off()
    return to_png(figure)

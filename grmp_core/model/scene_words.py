"""The nine scene words whose prediction the regularization keeps."""

from __future__ import annotations

SCENES = ("animal", "cityscape", "human", "indoor scene", "landscape", "night scene", "plant", "still-life", "others")
"""The nine scene words of the published code (after LIQE)."""

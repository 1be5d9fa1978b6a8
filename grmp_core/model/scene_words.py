"""The nine scene words whose prediction the regularization keeps."""

from __future__ import annotations

SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")
"""The nine scene words of the published code (finetune.py), to the letter: other words turn the sign of the projection
in a fifth of the tensors of ViT-B/16."""

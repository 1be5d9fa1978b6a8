"""Distortions of pictures: uint8 RGB in, uint8 RGB out, all randomness from a given numpy Generator.

Parameters by level are KADID-10k's (its MATLAB generator; where sources disagree, the order that the human level means
support). The pixel work is OpenCV's and Pillow's.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from grmp_core.distortions.blur import BLURS
from grmp_core.distortions.brightness import BRIGHTNESSES
from grmp_core.distortions.colour import COLOURS, TID_COLOURS
from grmp_core.distortions.compression import COMPRESSIONS
from grmp_core.distortions.noise import NOISES
from grmp_core.distortions.registry import Distortion
from grmp_core.distortions.shaped_noise import SHAPED_NOISES
from grmp_core.distortions.sharpness import SHARPNESSES
from grmp_core.distortions.spatial import SPATIALS
from grmp_core.distortions.transmission import LOSSES
from grmp_core.errors import InputError

__all__ = [
    "KADID_NAMES",
    "MAX_PARTS",
    "REGISTRY",
    "Distortion",
    "check_composition",
    "compose",
    "distort",
    "draw_composition",
    "get",
]

_KADID = (*BLURS, *COLOURS, *COMPRESSIONS, *NOISES, *BRIGHTNESSES, *SPATIALS, *SHARPNESSES)
_TID_ONLY = sorted((*SHAPED_NOISES, *TID_COLOURS, *LOSSES), key=lambda distortion: distortion.tid_id or 0)
REGISTRY: dict[str, Distortion] = {distortion.name: distortion for distortion in (*_KADID, *_TID_ONLY)}
"""All distortions by name: KADID-10k's in its order, then those that only TID2013 has, in its order."""
KADID_NAMES: tuple[str, ...] = tuple(name for name, d in REGISTRY.items() if d.kadid_id is not None)
MAX_PARTS = 4
"""Distortions a composed picture has at most."""


def get(name: str) -> Distortion:
    """The distortion called `name`. InputError naming the nearest one."""
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(REGISTRY)}"
        raise InputError(f"distortion '{name}' is unknown; {hint}")
    return REGISTRY[name]


def check_composition(names: Sequence[str]) -> None:
    """InputError for an unknown name, for more than MAX_PARTS, and for two of one group."""
    groups = [get(name).group for name in names]
    if len(names) > MAX_PARTS or len(set(groups)) < len(groups):
        raise InputError(f"a composition takes at most {MAX_PARTS} distortions, one of a group; got {', '.join(names)}")


def compose(image_HW3: np.ndarray, parts: Sequence[tuple[str, float]], rng: np.random.Generator) -> np.ndarray:
    """Apply (name, severity) pairs one after the other. InputError as `check_composition` raises it."""
    check_composition([name for name, _ in parts])
    result = image_HW3.copy()
    for name, severity in parts:
        result = get(name)(result, severity, rng)
    return result


def distort(image_HW3: np.ndarray, name: str, level: float = 3, seed: int = 0) -> np.ndarray:
    """Damage a picture: uint8 RGB (H, W, 3) -> a new one of the same shape, the same for the same seed.

    Args:
        name: of a distortion, such as `jpeg`, or several joined by hyphens, such as `darken-white_noise-jpeg`.
        level: 1 to 5, whole or between, for all of them.

    InputError for an unknown name, a level outside 1 to 5, another shape or type, and as `check_composition`.
    """
    return compose(image_HW3, [(part, level) for part in name.split("-")], np.random.default_rng(seed))


def draw_composition(rng: np.random.Generator, max_parts: int = MAX_PARTS) -> tuple[tuple[str, float], ...]:
    """1 to `max_parts` distortions of different groups in random order, each at a severity drawn evenly from [1, 5]."""
    if not 1 <= max_parts <= MAX_PARTS:
        raise InputError(f"max_parts {max_parts}: use 1..{MAX_PARTS}")
    by_group: dict[str, list[str]] = {}
    for name in KADID_NAMES:
        by_group.setdefault(REGISTRY[name].group, []).append(name)
    groups = rng.permutation(sorted(by_group))[: int(rng.integers(1, max_parts + 1))]
    return tuple((str(rng.choice(by_group[group])), float(rng.uniform(1, 5))) for group in groups)

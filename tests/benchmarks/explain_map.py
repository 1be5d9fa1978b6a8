"""Whether the map of an explanation finds damage: its minimum lies in the quarter of the photo that was damaged.

    python -m tests.benchmarks.explain_map MATERIAL [--photos 200] [--out FILE.json]

Clean rated photos of groups that neither the backbone's training nor any choice here has seen. For each kind of damage
one random quarter gets it, at a level of 3 to 5. Compared: the map of quality, the map of the probability of no damage,
both also with a second look at finer crops (`--second-looks 4`, which takes three times as long), and as the baseline a
map of the variance of the Laplacian over the same crops, low where a photo is smooth. FILE.json is written again after
every tenth photo.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from grmp_core.distortions import get
from grmp_core.explain.damage_types import TypeDetector
from grmp_core.explain.explanation import Explainer
from grmp_core.explain.fit import LEVELS, unseen_photos
from grmp_core.explain.quality_map import QualityMap, quality_map
from grmp_core.explain.settings import MapConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.differentiable import unadapted
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig
from grmp_core.nano.material import read_material
from grmp_core.seeds import generator_of
from grmp_core.strict_json import json_text
from tests.benchmarks.material_command import material_parser

KINDS = {
    "blur": "gaussian_blur",
    "noise": "white_noise",
    "jpeg": "jpeg",
    "darkening": "darken",
    "colour": "colour_shift",
}


class Remembering:
    """Values of crops, computed once a content: most crops of a photo are the same for all kinds of damage."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer, self.known = explainer, dict[bytes, np.ndarray]()

    def __call__(self, crops_CHW3: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(crop.tobytes()).digest() for crop in crops_CHW3]
        new = {key: crop for key, crop in zip(keys, crops_CHW3, strict=True) if key not in self.known}
        if new:
            values = self.explainer.crop_values(np.stack(list(new.values())))
            self.known |= dict(zip(new, values, strict=True))
        return np.stack([self.known[key] for key in keys])


def plant(photo_HW3: np.ndarray, name: str, *seed: object) -> tuple[np.ndarray, tuple[slice, slice]]:
    """-> the photo with one damaged quarter, and where that is. The damage is computed on the whole photo."""
    rng = generator_of("plant", name, *seed)
    height, width = (side // 2 for side in photo_HW3.shape[:2])
    row, column = (int(i) for i in rng.integers(2, size=2))
    quarter = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
    damaged = photo_HW3.copy()
    damaged[quarter] = get(name)(photo_HW3, float(rng.choice(LEVELS)), rng)[quarter]
    return damaged, quarter


def smoothness(crops_CHW3: np.ndarray) -> np.ndarray:
    """(C, 2): log variance of the Laplacian, twice, in the place of the values of a model."""
    greys = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops_CHW3]
    values = np.log([cv2.Laplacian(grey, cv2.CV_64F).var() + 1e-6 for grey in greys])
    return np.column_stack([values, np.minimum(values - 20, 0)])


def is_inside(found: QualityMap, cells_hw: np.ndarray, quarter: tuple[slice, slice]) -> bool:
    return all(part.start <= place < part.stop for part, place in zip(quarter, found.lowest(cells_hw), strict=True))


def measure(material_folder: Path, photos: int, crops: MapConfig) -> Iterator[dict[str, object]]:
    """The report after every tenth photo, and the last one."""
    torch.set_num_threads(1)
    material = read_material(material_folder)
    backbone = load_backbone(BackboneConfig())
    scorer = Scorer(unadapted(backbone), "backbone", backbone=backbone)
    explainer = Explainer(scorer, TypeDetector(load_backbone(BackboneConfig())))
    size_px = backbone.image_size_px
    numbers = unseen_photos(material, "measure", photos)
    first = replace(crops, second_looks=0)
    variants = {"": first, "_second_look": crops} if crops.second_looks else {"": first}
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    looked_again, started = [], time.monotonic()
    for done, number in enumerate(numbers, start=1):
        values = Remembering(explainer)
        for kind, name in KINDS.items():
            damaged, quarter = plant(np.array(material.store.pixels(number)), name, number)
            for ending, config in variants.items():
                found = quality_map(damaged, values, size_px, config)
                hits[kind][f"quality{ending}"].append(is_inside(found, found.quality_hw, quarter))
                hits[kind][f"undamaged{ending}"].append(is_inside(found, found.undamaged_hw, quarter))
            looked_again.append(found.looked_again)
            smooth = quality_map(damaged, smoothness, size_px, first)
            hits[kind]["laplacian_variance"].append(is_inside(smooth, smooth.quality_hw, quarter))
        if done % 10 == 0 or done == len(numbers):
            print(f"{done} of {len(numbers)} photos, {time.monotonic() - started:.0f} s", flush=True)
            yield {
                "weights_sha256": backbone.weights_sha256,
                "photos": done,
                "minimum_in_planted_quarter": {
                    kind: {name: round(float(np.mean(found)), 4) for name, found in maps.items()}
                    for kind, maps in hits.items()
                },
                "crops_looked_at_again": round(float(np.mean(looked_again)), 2),
            }


def main() -> None:
    parser = material_parser("explain_map", photos=200)
    parser.add_argument("--second-looks", type=int, default=0)
    options = parser.parse_args()
    crops = MapConfig(second_looks=options.second_looks)
    report = ""
    for found in measure(options.material, options.photos, crops):
        report = json_text(found, indent=2)
        if options.out:
            options.out.write_text(report + "\n")
    print(report)


if __name__ == "__main__":
    main()

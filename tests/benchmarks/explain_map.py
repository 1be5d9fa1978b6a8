"""Whether the map of an explanation finds damage: its minimum lies in the part of the photo that was damaged.

    python -m tests.benchmarks.explain_map MATERIAL [--photos 200] [--part ellipse] [--unseen-types] [--out FILE.json]

Clean rated photos of groups that neither the backbone's training nor any choice here has seen. Each gets each kind of
damage at a level of 3 to 5 in one random quarter, or in an ellipse of that area at a random place. Photos of training
taught the map of no damage by quarters and other rectangles, but by no ellipse; `--unseen-types` plants the types that
no training has seen. Compared: the map of quality (`--second-looks 4` looks again at finer crops, which takes three
times as long and leaves the other maps as they are), the map of the probability of no damage, that of the probability
by sentences about each crop alone, and as the baseline a map of the variance of the Laplacian over the same crops, low
where a photo is smooth. The lowest probability of no damage in the photos as they are is reported, too. FILE.json is
written again after every tenth photo.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.explain.damage_types import TypeDetector
from grmp_core.explain.explanation import Explainer
from grmp_core.explain.fit import LEVELS, unseen_photos
from grmp_core.explain.place_damage import detector_file, detector_of
from grmp_core.explain.quality_map import quality_map
from grmp_core.explain.settings import MapConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.differentiable import unadapted
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.nano.material import read_material
from grmp_core.nano.sentences import HELD_OUT_TYPES
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
    """Looks at crops, each content once: most crops of a photo are the same for all kinds of damage."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer, self.known = explainer, dict[bytes, np.ndarray]()

    def __call__(self, crops_CHW3: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(crop.tobytes()).digest() for crop in crops_CHW3]
        new = {key: crop for key, crop in zip(keys, crops_CHW3, strict=True) if key not in self.known}
        if new:
            values = self.explainer.look(np.stack(list(new.values())))
            self.known |= dict(zip(new, values, strict=True))
        return np.stack([self.known[key] for key in keys])


def plant(photo_HW3: np.ndarray, name: str, part: str, *seed: object) -> tuple[np.ndarray, np.ndarray]:
    """-> the photo with damage in one part, a quarter or an ellipse, and (H, W) where that is.

    The damage is computed on the whole photo.
    """
    rng = generator_of("plant", name, *seed)
    height, width = photo_HW3.shape[:2]
    row, column = (int(i) for i in rng.integers(2, size=2))
    level = float(rng.choice(LEVELS))
    inside_HW = np.zeros((height, width), bool)
    if part == "quarter":
        rows, columns = height // 2, width // 2
        inside_HW[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = True
    else:
        reach = 1 / np.sqrt(4 * np.pi)  # half an axis as a share of the side
        y, x = generator_of("ellipse", name, *seed).uniform(reach, 1 - reach, 2)
        rows_H1, columns_W = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
        inside_HW = (rows_H1 - y) ** 2 + (columns_W - x) ** 2 <= reach**2
    damaged_HW3 = get(name)(photo_HW3, level, rng)
    return np.where(inside_HW[..., None], damaged_HW3, photo_HW3), inside_HW


def smoothness(crops_CHW3: np.ndarray) -> np.ndarray:
    """(C, 2): log variance of the Laplacian in the place of quality and of a log probability."""
    greys = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops_CHW3]
    values = np.log([cv2.Laplacian(grey, cv2.CV_64F).var() + 1e-6 for grey in greys])
    return np.column_stack([values, values - 20])


def by_sentences(told_CS: np.ndarray, centres_C2: np.ndarray) -> np.ndarray:
    """(C,) log probability of no damage of each crop alone: the first column behind the quality."""
    return told_CS[:, 0]


def measure(
    material_folder: Path, photos: int, crops: MapConfig, kinds: dict[str, str], part: str
) -> Iterator[dict[str, object]]:
    """The report after every tenth photo, and the last one."""
    torch.set_num_threads(1)
    material = read_material(material_folder)
    backbone = load_backbone(BackboneConfig())
    scorer = Scorer(unadapted(backbone), "backbone", backbone=backbone)
    places = detector_of(backbone.config, backbone.weights_sha256)
    if places is None:
        raise InputError("the package has no detector of places for these weights; run grmp_core.explain.place_fit")
    explainer = Explainer(scorer, TypeDetector(load_backbone(BackboneConfig())), places)
    size_px = backbone.image_size_px
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    looked_again, lowest, started = list[int](), list[float](), time.monotonic()
    numbers = unseen_photos(material, "measure", photos)
    for done, number in enumerate(numbers, start=1):
        look, photo_HW3 = Remembering(explainer), np.array(material.store.pixels(number))
        lowest.append(float(quality_map(photo_HW3, look, explainer.judge, size_px, crops).undamaged_hw.min()))
        for kind, name in kinds.items():
            damaged_HW3, inside_HW = plant(photo_HW3, name, part, number)
            found, alone, smooth = (
                quality_map(damaged_HW3, *ways, size_px, crops)
                for ways in ((look, explainer.judge), (look, by_sentences), (smoothness, by_sentences))
            )
            looked_again.append(found.looked_again)
            maps = {
                "undamaged": (found, found.undamaged_hw),
                "undamaged_by_sentences": (alone, alone.undamaged_hw),
                "quality": (found, found.quality_hw),
                "laplacian_variance": (smooth, smooth.undamaged_hw),
            }
            for title, (of_map, cells_hw) in maps.items():
                hits[kind][title].append(bool(inside_HW[of_map.lowest(cells_hw)]))
        if done % 10 == 0 or done == len(numbers):
            print(f"{done} of {len(numbers)} photos, {time.monotonic() - started:.0f} s", flush=True)
            yield {
                "weights_sha256": backbone.weights_sha256,
                "places_sha256": hashlib.sha256(detector_file(EMBEDDED).read_bytes()).hexdigest(),
                "part": part,
                "second_looks": crops.second_looks,
                "photos": done,
                "minimum_in_planted_part": {
                    kind: {name: round(float(np.mean(found)), 4) for name, found in maps.items()}
                    for kind, maps in hits.items()
                },
                "lowest_undamaged_of_photos_as_they_are": {
                    f"percentile_{q}": round(float(np.percentile(lowest, q)), 3) for q in (5, 25, 50)
                },
                "crops_looked_at_again": round(float(np.mean(looked_again)), 2),
            }


def main() -> None:
    parser = material_parser("explain_map", photos=200)
    parser.add_argument("--part", choices=("quarter", "ellipse"), default="quarter")
    parser.add_argument("--second-looks", type=int, default=0)
    parser.add_argument("--unseen-types", action="store_true")
    options = parser.parse_args()
    crops = MapConfig(second_looks=options.second_looks)
    kinds = {name: name for name in HELD_OUT_TYPES} if options.unseen_types else KINDS
    report = ""
    for found in measure(options.material, options.photos, crops, kinds, options.part):
        report = json_text(found, indent=2)
        if options.out:
            options.out.write_text(report + "\n")
    print(report)


if __name__ == "__main__":
    main()

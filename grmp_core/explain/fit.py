"""Fit what explanations compare with: the calibration of the type probabilities, and the measurements of clean photos.

    python -m grmp_core.explain.fit MATERIAL [--photos 60] [--clean 400]

MATERIAL is a folder of `grmp train_backbone prepare`. The calibration is fitted on rated photos whose groups the
backbone's training has not seen, each with one damage of every trained type at levels 3 to 5 and once as it is; half of
these photos are left for measuring (`tests/benchmarks`). Clean photos are rated ones of training, which see no model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from grmp_core.distortions import get
from grmp_core.explain.damage_types import (
    TYPE_VIEWS,
    UNDAMAGED,
    TypeCalibration,
    TypeDetector,
    fit_calibration,
    write_calibration,
)
from grmp_core.explain.measurements import Measurements, measure
from grmp_core.explain.tool_choice import RANGES
from grmp_core.imaging.views import scoring_views
from grmp_core.model.backbone import load_backbone
from grmp_core.model.features import image_features
from grmp_core.model.settings import BackboneConfig
from grmp_core.nano.material import RATED, Material, read_material
from grmp_core.nano.sentences import TYPES
from grmp_core.seeds import generator_of, seed_of
from grmp_core.strict_json import json_text

CLEAN_SCORE = 0.6
"""Human score in [0, 1] from which a rated photo counts as clean."""
LEVELS = (3, 4, 5)


def unseen_photos(material: Material, part: Literal["choice", "measure"], count: int) -> list[int]:
    """Numbers of `count` clean photos of held-out groups; no group is in both parts. Fewer where there are no more."""
    chosen = []
    for number in material.validation(RATED).tolist():
        row = material.store.rows[number]
        is_choice = seed_of("explain", int(material.groups_N[number])) % 2 == 0
        if row.score is not None and row.score >= CLEAN_SCORE and is_choice == (part == "choice"):
            chosen.append(number)
    return sorted(chosen, key=lambda number: seed_of("explain", material.store.rows[number].sha256))[:count]


def damaged_views(
    detector: TypeDetector, photo_HW3: np.ndarray, names: tuple[str, ...], *seed: object
) -> Iterator[tuple[str, int, np.ndarray]]:
    """(type, level, crops) of one photo with one damage of every type, at a level drawn from LEVELS."""
    for name in names:
        rng = generator_of("explain", name, *seed)
        level = int(rng.choice(LEVELS))
        damaged = get(name)(photo_HW3, float(level), rng)
        yield name, level, scoring_views(damaged, TYPE_VIEWS, detector.backbone.image_size_px)


def logits_of(detector: TypeDetector, crops_VHW3: np.ndarray) -> np.ndarray:
    """(K,) mean logits over the crops of one image."""
    return detector.logits(image_features(detector.backbone, [crops_VHW3]).unit_NE).mean(axis=0)


def fit_types(material: Material, photos: int) -> TypeCalibration:
    """The calibration for the package's backbone."""
    detector = TypeDetector(load_backbone(BackboneConfig()))
    logits, truth = list[np.ndarray](), list[int]()
    for number in unseen_photos(material, "choice", photos):
        photo = np.array(material.store.pixels(number))
        for name, _, crops in damaged_views(detector, photo, TYPES, number):
            logits.append(logits_of(detector, crops))
            truth.append(TYPES.index(name))
        logits.append(logits_of(detector, scoring_views(photo, TYPE_VIEWS, detector.backbone.image_size_px)))
        truth.append(len(TYPES))
    temperature, bias_K = fit_calibration(np.array(logits), np.array(truth))
    return TypeCalibration(
        weights_sha256=detector.backbone.weights_sha256,
        temperature=round(temperature, 4),
        bias={name: round(float(bias), 4) for name, bias in zip((*TYPES, UNDAMAGED), bias_K, strict=True)},
        photos=len(truth) // (len(TYPES) + 1),
    )


def write_ranges(material: Material, photos: int, path: Path = RANGES) -> None:
    """Percentiles of all measurements over clean photos of training."""
    rows = material.store.rows
    numbers = [n for n in material.training.tolist() if (rows[n].score or 0) >= CLEAN_SCORE]
    chosen = sorted(numbers, key=lambda number: seed_of("clean", rows[number].sha256))[:photos]
    measured = [measure(material.store.pixels(number)).as_dict() for number in chosen]
    percentiles = {
        name: [float(f"{v:.5g}") for v in np.percentile([m[name] for m in measured], np.arange(101))]
        for name in Measurements.__dataclass_fields__
    }
    path.write_text(json_text({"photos": len(chosen), "percentiles": percentiles}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m grmp_core.explain.fit", description=__doc__)
    parser.add_argument("material", type=Path, metavar="MATERIAL")
    parser.add_argument("--photos", type=int, default=60, help="for the calibration; 0: none (default: %(default)s)")
    parser.add_argument("--clean", type=int, default=400, help="measured; 0: leave them (default: %(default)s)")
    options = parser.parse_args()
    material = read_material(options.material)
    if options.clean:
        write_ranges(material, options.clean)
    if options.photos:
        calibration = fit_types(material, options.photos)
        write_calibration(calibration)
        print(json_text(vars(calibration)))


if __name__ == "__main__":
    main()

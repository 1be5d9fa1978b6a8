"""Which type of damage is recognized on unseen photos, and how well the probabilities are calibrated.

    python -m tests.benchmarks.explain_types MATERIAL [--photos 100] [--out FILE.json]

Clean rated photos of groups that neither the backbone's training nor the calibration has seen, each with one damage of
every type at levels 3 to 5; probabilities are those of the types if there is damage. Types that the backbone was
trained on; those held out of its training apart, which have no sentence among those compared, so that they count as
right where a type of their own family is named.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grmp_core.explain.damage_types import TypeDetector, expected_calibration_error, group_of
from grmp_core.explain.fit import damaged_views, logits_of, unseen_photos
from grmp_core.model.backbone import load_backbone
from grmp_core.model.settings import BackboneConfig
from grmp_core.nano.material import read_material
from grmp_core.nano.sentences import HELD_OUT_TYPES, TYPES
from tests.benchmarks.material_command import print_measure


def measure(material_folder: Path, photos: int) -> dict[str, object]:
    material = read_material(material_folder)
    detector = TypeDetector(load_backbone(BackboneConfig()))
    numbers = unseen_photos(material, "measure", photos)
    names = (*TYPES, *HELD_OUT_TYPES)
    types, levels, logits = [], [], []
    for number in numbers:
        for name, level, crops in damaged_views(detector, np.array(material.store.pixels(number)), names, number):
            types.append(name)
            levels.append(level)
            logits.append(logits_of(detector, crops))
    type_N, level_N, logits_NK = np.array(types), np.array(levels), np.array(logits)
    probability_NK = np.exp(detector.log_probabilities(logits_NK)[:, :-1])
    probability_NK /= probability_NK.sum(axis=1, keepdims=True)
    ranked_NK = np.argsort(-probability_NK, axis=1)
    trained = np.isin(type_N, TYPES)
    truth_N = np.array([TYPES.index(name) if name in TYPES else -1 for name in types])
    group_K = np.array([*map(group_of, TYPES)])
    group_N = np.array([group_of(name) for name in types])

    def top(count: int, rows: np.ndarray) -> float:
        return round(float((ranked_NK[rows, :count] == truth_N[rows, None]).any(axis=1).mean()), 4)

    def family(count: int, rows: np.ndarray) -> float:
        return round(float((group_K[ranked_NK[rows, :count]] == group_N[rows, None]).any(axis=1).mean()), 4)

    def gap(rows: np.ndarray) -> float:
        confidence, right = probability_NK[rows].max(axis=1), ranked_NK[rows, 0] == truth_N[rows]
        return round(expected_calibration_error(confidence, right), 4)

    return {
        "weights_sha256": detector.backbone.weights_sha256,
        "calibrated": detector.is_calibrated,
        "photos": len(numbers),
        "trained_types": {
            "top1": top(1, trained),
            "top3": top(3, trained),
            "ece": gap(trained),
            "top3_by_level": {int(level): top(3, trained & (level_N == level)) for level in np.unique(level_N)},
            "ece_by_level": {int(level): gap(trained & (level_N == level)) for level in np.unique(level_N)},
            "family_top1": family(1, trained),
            "top3_by_type": {name: top(3, type_N == name) for name in TYPES},
        },
        "held_out_types": {
            "family_top1": family(1, ~trained),
            "family_top3": family(3, ~trained),
            "family_top3_by_type": {name: family(3, type_N == name) for name in HELD_OUT_TYPES},
        },
    }


if __name__ == "__main__":
    print_measure("explain_types", measure, photos=100)

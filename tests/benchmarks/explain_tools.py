"""Which number agrees best with people for each family of damage: the table behind the rule for tools.

    python -m tests.benchmarks.explain_tools MATERIAL [--photos 12] [--out FILE.json]

The middle 256 px of clean unseen photos, set apart for choosing, with every type of KADID-10k at its five levels. The
human side is the mean score of the type and level in KADID-10k. Per family the absolute SRCC over all its pictures of
every estimator, of every measure against the reference, and of the model's quality from one crop without a label; once
more over the types alone that were held out of the backbone's training, which otherwise has learned from such means.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from grmp_core.distortions import KADID_NAMES, get
from grmp_core.evaluation.metrics import srcc
from grmp_core.explain.fit import unseen_photos
from grmp_core.explain.measurements import measure as measured_of
from grmp_core.explain.references import compare
from grmp_core.explain.tool_choice import TOOLS
from grmp_core.labels.human_means import quality_of
from grmp_core.model.backbone import load_backbone
from grmp_core.model.features import image_features
from grmp_core.model.settings import BackboneConfig
from grmp_core.model.zero_shot import zero_shot_quality
from grmp_core.nano.material import read_material
from grmp_core.nano.sentences import HELD_OUT_TYPES
from grmp_core.seeds import generator_of
from tests.benchmarks.material_command import print_measure

_PART_PX = 256


def measure(material_folder: Path, photos: int) -> dict[str, object]:
    material = read_material(material_folder)
    backbone = load_backbone(BackboneConfig())
    rows, crops = [], []
    cut = (_PART_PX - backbone.image_size_px) // 2
    for number in unseen_photos(material, "choice", photos):
        photo = material.store.pixels(number)
        top, left = ((side - _PART_PX) // 2 for side in photo.shape[:2])
        clean = np.ascontiguousarray(photo[top : top + _PART_PX, left : left + _PART_PX])
        for name in KADID_NAMES:
            for level in range(1, 6):
                damaged = get(name)(clean, float(level), generator_of("tools", number, name, level))
                human = {"family": get(name).group, "type": name, "human": quality_of(name, level)}
                rows.append(human | measured_of(damaged).as_dict() | compare(damaged, clean).as_dict())
                crops.append(damaged[cut : cut + backbone.image_size_px, cut : cut + backbone.image_size_px])
    batches = (np.stack(crops[i : i + 32]) for i in range(0, len(crops), 32))
    frame = pd.DataFrame(rows)
    frame["quality"] = zero_shot_quality(backbone, image_features(backbone, batches).unit_NE)
    chosen = {f: {"estimator": t.estimator and t.estimator.name, "reference": t.reference} for f, t in TOOLS.items()}
    return {
        "weights_sha256": backbone.weights_sha256,
        "photos": photos,
        "chosen": chosen,
        "srcc_with_human_means": agreement(frame, "family"),
        "of_types_held_out_of_training": agreement(frame[frame["type"].isin(HELD_OUT_TYPES)], "type"),
    }


def agreement(frame: pd.DataFrame, by: str) -> dict[str, dict[str, float]]:
    """Absolute SRCC of every tool with the human means in each group of pictures."""
    tools = [name for name in frame.columns if name not in ("family", "type", "human")]
    return {
        str(group): {
            name: round(abs(float(srcc(part[name].to_numpy(), part["human"].to_numpy()))), 3) for name in tools
        }
        for group, part in frame.groupby(by)
    }


if __name__ == "__main__":
    print_measure("explain_tools", measure, photos=12)

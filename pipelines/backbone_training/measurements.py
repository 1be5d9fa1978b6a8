"""Measurements of grmp-nano's weights: the numbers of its model card.

Settings are chosen by `quick_validation` and `measure_held_out`, on photos that training may not see. `measure_target`
is a look at a target; every look appends a line to the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file

from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.ridge import residual_ridge, ridge
from grmp_core.imaging.views import ViewConfig, scoring_views, whole_grid
from grmp_core.labels.human_means import quality_of
from grmp_core.model.backbone import OPENAI_MEAN, OPENAI_STD, Backbone, dtype_of, hash_weights
from grmp_core.model.features import image_features
from grmp_core.model.nano_trunk import IMAGE_SIZE_PX, MODEL_CONFIG
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.model.zero_shot import caption_logits, zero_shot_quality
from grmp_core.nano import captions
from grmp_core.nano.crops import apply_parts
from grmp_core.nano.groups import neighbours
from grmp_core.nano.material import RATED, Material, read_described
from grmp_core.nano.photo_store import PhotoStore
from grmp_core.nano.sentences import HELD_OUT_TYPES, TYPES
from grmp_core.nano.trainable_clip import TrainableClip
from grmp_core.strict_json import json_text

_DRAWS = 10


@dataclass(frozen=True)
class PhotoNumbers:
    """Outputs of a backbone for N photos: means over the views of each."""

    quality_N: np.ndarray
    """No-label quality in [0,1]."""
    pooled_ND: np.ndarray
    """Pooled tokens of the image tower, before the projection."""


def open_weights(path: str | Path, precision: str = "bf16") -> Backbone:
    """Exported weights as a backbone, whatever weights the package ships."""
    clip = open_clip.CLIP(**MODEL_CONFIG)
    clip.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()}, strict=True)
    digest = hash_weights(clip)
    clip = clip.eval().requires_grad_(False).to(dtype_of(precision))
    tokenize = open_clip.get_tokenizer(EMBEDDED)
    config = BackboneConfig(checkpoint=str(path))
    return Backbone(clip, tokenize, config, IMAGE_SIZE_PX, OPENAI_MEAN, OPENAI_STD, digest)


@torch.inference_mode()
def quick_validation(model: TrainableClip, material: Material, numbers: np.ndarray) -> dict[str, float]:
    """SRCC of no-label quality with human scores on held-out rated photos, from one crop in the middle."""
    tokens = open_clip.get_tokenizer(EMBEDDED)(list(captions.CANONICAL_PAIR))
    model, device = model.bfloat16(), model.rows_UD.device
    good_E, bad_E = model.text_features(tokens.to(device))
    views = ViewConfig(score_grid=1)
    crops = (scoring_views(material.store.pixels(int(n)), views, IMAGE_SIZE_PX) for n in numbers)
    features = [model.image_features(torch.from_numpy(batch).to(device)) for batch in _batched(crops, 32)]
    quality = (torch.cat(features) @ (good_E - bad_E)).cpu().numpy()
    scores, subsets = _scores_and_subsets(material.store, numbers)
    report = {"srcc": srcc(quality, scores)}
    report |= {f"srcc_{s}": srcc(quality[subsets == s], scores[subsets == s]) for s in np.unique(subsets)}
    return {name: round(float(value), 4) for name, value in report.items()}


def look_at(backbone: Backbone, pictures: Iterable[np.ndarray], grid: int = 3) -> PhotoNumbers:
    """Quality and features of whole pictures, mean of grid x grid native crops."""
    views = ViewConfig(score_grid=grid)
    crops = (whole_grid(scoring_views(picture, views, IMAGE_SIZE_PX), views) for picture in pictures)
    features = image_features(backbone, _batched(crops, 4 * grid**2))
    quality = zero_shot_quality(backbone, features.unit_NE)
    return PhotoNumbers(_mean_of(quality, grid**2), _mean_of(features.pooled_ND, grid**2))


def measure_held_out(backbone: Backbone, material: Material, pictures: int = 60, grid: int = 2) -> dict[str, object]:
    """Numbers on photos that training does not see: rated ones, and pristine ones with each distortion type."""
    numbers = material.validation(RATED)
    found = look_at(backbone, (material.store.pixels(int(n)) for n in numbers))
    scores, subsets = _scores_and_subsets(material.store, numbers)
    report: dict[str, object] = {"rated_photos": len(numbers), "srcc": _round(srcc(found.quality_N, scores))}
    report |= {
        f"srcc_{s}": _round(srcc(found.quality_N[subsets == s], scores[subsets == s])) for s in np.unique(subsets)
    }
    groups = material.groups_N[numbers]
    for shots in (25, 50):
        report[f"ridge_{shots}"] = few_label_srcc(found, scores, groups, shots, residual=False)
        report[f"residual_ridge_{shots}"] = few_label_srcc(found, scores, groups, shots, residual=True)
    return {**report, **measure_damage(backbone, material, pictures, grid)}


def measure_damage(backbone: Backbone, material: Material, pictures: int, grid: int) -> dict[str, object]:
    """Held-out pristine photos, each with every type at a random level."""
    rng = np.random.default_rng(0)
    unrated = [n for n in np.flatnonzero(material.is_held_out_N) if material.store.rows[int(n)].score is None]
    chosen = rng.permutation(unrated)[:pictures]
    names = [*TYPES, *HELD_OUT_TYPES]
    made: list[tuple[str, int]] = []

    def distorted() -> Iterator[np.ndarray]:
        for number in chosen:
            for name in names:
                level = int(rng.integers(1, 6))
                made.append((name, level))
                yield apply_parts(material.store.pixels(int(number)), [(name, float(level))], rng)

    views = ViewConfig(score_grid=grid)
    crops = (whole_grid(scoring_views(picture, views, IMAGE_SIZE_PX), views) for picture in distorted())
    features = image_features(backbone, _batched(crops, 32))
    unit_NE = torch.from_numpy(_mean_of(features.unit_NE.numpy(), grid**2))
    quality, fidelity = (
        _mean_of(zero_shot_quality(backbone, features.unit_NE, pair), grid**2)
        for pair in (captions.CANONICAL_PAIR, captions.FIDELITY_PAIRS[0])
    )
    labels = np.array([quality_of(name, level) for name, level in made])
    types, levels = np.array([name for name, _ in made]), np.array([level for _, level in made])
    trained, strong = np.isin(types, TYPES), levels >= 3
    right = (
        np.array(TYPES)[caption_logits(backbone, unit_NE, captions.distortion_captions(TYPES)[:-1]).argmax(axis=1)]
        == types
    )
    asked = trained & strong
    return {
        "pristine_photos": len(chosen),
        "damage_quality_srcc_trained_types": _round(srcc(quality[trained], labels[trained])),
        "damage_quality_srcc_unseen_types": _round(srcc(quality[~trained], labels[~trained])),
        "damage_quality_srcc_all_types": _round(srcc(quality, labels)),
        "damage_fidelity_srcc_trained_types": _round(srcc(fidelity[trained], labels[trained])),
        "damage_fidelity_srcc_unseen_types": _round(srcc(fidelity[~trained], labels[~trained])),
        "damage_srcc_by_unseen_type": {
            t: _round(srcc(quality[types == t], labels[types == t])) for t in HELD_OUT_TYPES
        },
        "type_top1_levels_3_5": _round(right[asked].mean()),
        "type_top1_by_type": {t: _round(right[asked & (types == t)].mean()) for t in TYPES},
    }


def measure_target(backbone: Backbone, material: Material, folder: Path, name: str, ledger: Path) -> dict[str, object]:
    """No-label SRCC on a target that `prepare` has described. Appends a line to the ledger.

    Photos with a neighbour among those of training are left out and counted.
    """
    target = read_described(folder, material)
    near = neighbours(target.hashes_N, target.features_NF, material.hashes_N, material.features_NF)[
        :, material.training
    ]
    kept = np.flatnonzero(~near.any(axis=1))
    found = look_at(backbone, (target.store.pixels(int(n)) for n in kept))
    scores, subsets = _scores_and_subsets(target.store, kept)
    parts = {"all": np.full(len(kept), True)}
    if len(np.unique(subsets)) > 1:
        parts |= {"without_ss02": subsets != "ss02"} | {s: subsets == s for s in np.unique(subsets)}
    report: dict[str, object] = {
        "target": name,
        "measure": "SRCC without a label, mean of 3 x 3 native crops",
        "weights_sha256": backbone.weights_sha256,
        "precision": str(next(backbone.clip.parameters()).dtype).removeprefix("torch."),
        "photos": len(kept),
        "left_out_as_neighbours_of_training": len(near) - len(kept),
        "srcc": {part: _round(srcc(found.quality_N[rows], scores[rows])) for part, rows in parts.items()},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with ledger.open("a") as file:
        file.write(json_text(report) + "\n")
    return report


def few_label_srcc(
    found: PhotoNumbers, scores_N: np.ndarray, groups_N: np.ndarray, shots: int, *, residual: bool
) -> list[float]:
    """[median, lower, upper quartile] of the SRCC over draws of `shots` labels, tested on photos of other groups.

    Ridge on pooled features; `residual`: `residual_ridge` on the no-label score.
    """
    values = []
    for draw in range(_DRAWS):
        rng = np.random.default_rng(draw)
        labelled = rng.permutation(len(scores_N))[:shots]
        test = _in_other_groups(groups_N, labelled)
        train_ND, test_MD = found.pooled_ND[labelled], found.pooled_ND[test]
        if residual:
            base_N, base_M = found.quality_N[labelled], found.quality_N[test]
            predicted = residual_ridge(train_ND, base_N, scores_N[labelled], test_MD, base_M)
        else:
            predicted = ridge(train_ND, scores_N[labelled], test_MD)
        values.append(srcc(predicted, scores_N[test]))
    return [_round(v) for v in np.percentile(values, (50, 25, 75))]


def _in_other_groups(groups_N: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(N,) bool: photos whose group holds none of the labelled ones."""
    return ~np.isin(groups_N, groups_N[labelled])


def _scores_and_subsets(store: PhotoStore, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = [store.rows[int(n)] for n in numbers]
    subsets = np.array([row.name[:4] if row.source == RATED else row.source for row in rows])
    return np.array([row.score for row in rows], dtype=float), subsets


def _mean_of(values: np.ndarray, views: int) -> np.ndarray:
    return values.reshape(-1, views, *values.shape[1:]).mean(axis=1)


def _round(value: float | np.floating) -> float:
    return round(float(value), 4)


def _batched(crops: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    for views in crops:
        held.append(views)
        if sum(map(len, held)) >= size:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)

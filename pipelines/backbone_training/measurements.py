"""Measurements of the embedded backbone's weights: the numbers of its model card."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from grmp_core.datasets import load as load_dataset
from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.ridge import probe_srcc
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.views import ViewConfig, scoring_views
from grmp_core.labels.own_quality import attributes, own_quality
from grmp_core.labels.visibility import Appearance, quality_of_picture
from grmp_core.model.backbone import EMBEDDED, Backbone, BackboneConfig, load_backbone
from grmp_core.model.features import image_features
from grmp_core.nano import captions
from grmp_core.nano.training_crops import TYPES, apply_parts, load_photos, overall_quality, quality_of_parts
from grmp_core.nano.zero_shot import recognize_type, zero_shot_quality


def measure(weights: str, folders: list[str], livec: str | None) -> dict[str, object]:
    """Zero-shot numbers on held-out photos, and on LIVEC with a linear probe where its folder is given."""
    backbone = load_backbone(BackboneConfig(name=EMBEDDED, checkpoint=weights))
    report: dict[str, object] = {"weights_sha256": backbone.weights_sha256, **_measure_synthetic(backbone, folders)}
    return {**report, **(_measure_livec(backbone, livec) if livec else {})}


def _measure_synthetic(backbone: Backbone, folders: list[str]) -> dict[str, object]:
    photos = load_photos(folders, 0, validation=True).photos
    if not photos:
        raise InputError(f"no photo in {', '.join(folders)} is held out (one in fourteen is); give more photos")
    rng = np.random.default_rng(0)
    pictures: list[tuple[str, int, float, float]] = []  # type, level, label by picture, the photo's own quality

    def views_of_pictures() -> Iterator[np.ndarray]:
        for photo in photos:
            appearance, own = Appearance(photo.pixels_HW3), own_quality(attributes(photo.pixels_HW3))
            for name in TYPES:
                level = int(rng.integers(1, 6))
                distorted = apply_parts(photo.pixels_HW3, [(name, float(level))], rng)
                label = quality_of_picture(name, float(level), appearance.differences(distorted))
                pictures.append((name, level, label, own))
                yield scoring_views(distorted, ViewConfig(), backbone.image_size_px)

    features = image_features(backbone, views_of_pictures())
    names, levels, labels, owns = zip(*pictures, strict=True)
    damages = [[(name, float(level))] for name, level in zip(names, levels, strict=True)]
    mean_labels = [quality_of_parts(parts) for parts in damages]
    overall = [overall_quality(parts, own) for parts, own in zip(damages, owns, strict=True)]
    quality = zero_shot_quality(backbone, features.unit_NE)
    fidelity = zero_shot_quality(backbone, features.unit_NE, captions.FIDELITY_PAIRS[0])
    sizes = np.array(features.batch_sizes)
    one_view = np.cumsum(sizes) - sizes + np.arange(len(sizes)) // len(TYPES) % sizes  # another place in every photo
    strong, types = np.array(levels) >= 3, np.array([TYPES.index(name) for name in names])
    unit_mean = torch.from_numpy(features.batch_means(features.unit_NE.numpy()))
    right = recognize_type(backbone, unit_mean, TYPES) == types
    right_one = recognize_type(backbone, features.unit_NE[one_view], TYPES) == types
    asked = {name: right[strong & (types == i)] for i, name in enumerate(TYPES)}
    by_type = {name: round(float(found.mean()), 3) for name, found in asked.items() if len(found)}
    quality_mean, fidelity_mean = features.batch_means(quality), features.batch_means(fidelity)
    return {
        "held_out_photos": len(photos),
        "synthetic_images": len(pictures),
        "synthetic_overall_srcc": round(srcc(quality_mean, overall), 4),
        "synthetic_overall_srcc_one_view": round(srcc(quality[one_view], np.array(overall)), 4),
        "synthetic_fidelity_srcc": round(srcc(fidelity_mean, mean_labels), 4),
        "synthetic_fidelity_srcc_labels_by_picture": round(srcc(fidelity_mean, labels), 4),
        "synthetic_quality_srcc_mean_labels": round(srcc(quality_mean, mean_labels), 4),
        "type_top1_levels_3_5": round(float(right[strong].mean()), 4),
        "type_top1_levels_3_5_one_view": round(float(right_one[strong].mean()), 4),
        "type_top1_by_type": by_type,
    }


def _measure_livec(backbone: Backbone, folder: str) -> dict[str, object]:
    table = load_dataset("livec", folder, max_reject_fraction=1.0).table
    paths, mos = table["image_path"].to_pylist(), table["mos"].to_numpy()
    ids = table["reference_id"].to_pylist()
    formula: list[float] = []  # own quality of the pictures, without any model

    def views_of_pictures() -> Iterator[np.ndarray]:
        for path in paths:
            views = scoring_views(read_image(path), ViewConfig(), backbone.image_size_px)
            formula.append(float(np.mean([own_quality(attributes(view)) for view in views])))
            yield views

    features = image_features(backbone, views_of_pictures())
    quality_N = features.batch_means(zero_shot_quality(backbone, features.unit_NE))
    pooled_ND = features.batch_means(features.pooled_ND)
    report: dict[str, object] = {
        "livec_photos": len(paths),
        "livec_zero_shot_srcc": round(srcc(quality_N, mos), 4),
        "livec_own_quality_srcc": round(srcc(formula, mos), 4),
    }
    for shots in (10, 25, 50, 100, 200):
        values = probe_srcc(pooled_ND, mos, ids, shots)
        report[f"livec_ridge_srcc_{shots}"] = [round(float(v), 3) for v in np.percentile(values, (50, 25, 75))]
    return report

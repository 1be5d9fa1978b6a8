"""All that an inspection finds in a labelled set, as JSON types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.datasets.labelled_set import LabelledSet, relative
from grmp_core.inspection.leaks import leaked
from grmp_core.inspection.near_duplicates import groups_of, near_groups
from grmp_core.inspection.shortcuts import properties_of, share_explained, shortcuts, srcc_without_pixels

_BINS = 20
_SIZES = 8
_KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF"}
"""Ending -> the kind of file that it stands for."""


@dataclass(frozen=True, kw_only=True)
class TrainingPhotos:
    """The photos that a model has learned from, as far as it knows them."""

    model: str
    hashes: np.ndarray | None = None
    """(M,) uint64 perceptual hashes of its backbone's; null: nobody knows them."""
    learned_from: frozenset[str] = frozenset()
    """Image ids of the labelled images that it was adapted to."""


@dataclass(frozen=True, kw_only=True)
class InspectedSet:
    """Findings, and what splits have to heed."""

    content: dict[str, Any]
    """As `inspection.json` has it."""
    usable: np.ndarray
    """(N,) bool: rows that can be read and that no training has seen."""
    joined_ids: tuple[str, ...]
    """(N,) references, where those of near-duplicates are one."""
    frame: pd.DataFrame
    """A row per image that can be read: name, path, mos, quality, part, and its `ImageFacts`."""


def inspect_set(target: LabelledSet, facts: pd.DataFrame, training: TrainingPhotos) -> InspectedSet:
    """Count, compare and look for duplicates and leaks.

    Args:
        target: N images.
        facts: (N rows) columns of `ImageFacts`, in the order of the target.
        training: what to look for in the target.
    """
    names = [relative(path, target.root) for path in target.image_paths]
    frame = target.table.select(["mos", "quality", "reference_id", "part"]).to_pandas()
    frame["part"] = frame["part"].fillna("")
    frame = pd.concat([frame.assign(name=names, path=target.image_paths), facts.reset_index(drop=True)], axis=1)
    readable = frame["error"].eq("").to_numpy()
    hashes = frame["perceptual_hash"].to_numpy(np.uint64)
    good = frame[readable].reset_index(drop=True)
    rows = np.flatnonzero(readable)
    near = [[int(rows[i]) for i in group] for group in near_groups(hashes[readable])]
    seen = np.zeros(len(frame), bool)
    if training.hashes is not None:
        seen[readable] = leaked(hashes[readable], training.hashes)
    adapted = frame["image_id"].isin(list(training.learned_from)).to_numpy() & readable
    content = {
        "dataset": target.name,
        "images": len(frame),
        "notes": list(target.notes),
        "left_out": [{"path": reject.path, "reason": reject.reason} for reject in target.rejected],
        "unreadable": frame.loc[~readable, ["name", "error"]].to_dict("records"),
        "scores": _scores(target),
        "references": _references(frame),
        "parts": {str(part): int(n) for part, n in frame["part"].value_counts().items() if part},
        "sizes": _sizes(good),
        "kinds": _kinds(good),
        "shortcuts": _shortcuts(good),
        "duplicates": _duplicates(frame, near, target),
        "leaks": {
            "model": training.model,
            "known_photos": None if training.hashes is None else len(training.hashes),
            "images": frame.loc[seen, "name"].tolist(),
            "learned_from": frame.loc[adapted, "name"].tolist(),
        },
    }
    joined = _joined(target.reference_ids, near)
    return InspectedSet(content=content, usable=readable & ~seen & ~adapted, joined_ids=joined, frame=good)


def _scores(target: LabelledSet) -> dict[str, Any]:
    scale = target.score_range
    counts, edges = np.histogram(target.mos, bins=_BINS, range=(scale.mos_min, scale.mos_max))
    return {
        "min": float(target.mos.min()),
        "median": float(np.median(target.mos)),
        "max": float(target.mos.max()),
        "std": float(target.mos.std()),
        "distinct": len(np.unique(target.mos)),
        "scale": [scale.mos_min, scale.mos_max],
        "higher_is_better": scale.higher_is_better,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _references(frame: pd.DataFrame) -> dict[str, int]:
    counts = frame["reference_id"].value_counts()
    return {"count": len(counts), "images_of_the_largest": int(counts.max())}


def _sizes(good: pd.DataFrame) -> dict[str, Any]:
    if good.empty:
        return {"most_frequent": []}
    pixels = good["width_px"] * good["height_px"] / 1e6
    sizes = good.groupby(["width_px", "height_px"]).agg(images=("quality", "size"), quality=("quality", "median"))
    largest = sizes.sort_values("images", ascending=False).head(_SIZES).reset_index()
    return {
        "megapixels": {"min": float(pixels.min()), "median": float(pixels.median()), "max": float(pixels.max())},
        "distinct": len(sizes),
        "most_frequent": largest.to_dict("records"),
    }


def _kinds(good: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every kind of file how many, their median quality, and how many have the ending of another kind."""
    named = good["name"].map(lambda name: _KINDS.get(name.rpartition(".")[2].lower(), ""))
    table = good.assign(misnamed=named.ne(good["kind"]) & named.ne(""))
    rows = table.groupby("kind").agg(
        images=("quality", "size"), quality=("quality", "median"), misnamed=("misnamed", "sum")
    )
    return rows.sort_values("images", ascending=False).reset_index().to_dict("records")


def _shortcuts(good: pd.DataFrame) -> dict[str, Any]:
    quality, kinds = good["quality"].to_numpy(), good["kind"].tolist()
    columns = (good[name].to_numpy() for name in ("width_px", "height_px", "size_bytes"))
    properties = properties_of(*columns)
    found = shortcuts(quality, properties)
    return {
        "properties": [{**asdict(one), "is_hint": one.is_hint} for one in found],
        "variance_between_kinds": share_explained(quality, kinds) if len(good) else 0.0,
        "srcc_of_size_shape_and_kind": srcc_without_pixels(quality, properties, kinds, good["reference_id"].tolist()),
    }


def _duplicates(frame: pd.DataFrame, near: list[list[int]], target: LabelledSet) -> dict[str, Any]:
    """Groups of near-duplicates are told by whether a split by reference keeps them together."""
    same = frame[frame["error"].eq("")].groupby("image_id").indices
    readable = np.flatnonzero(frame["error"].eq("").to_numpy())
    equal = [readable[rows].tolist() for rows in same.values() if len(rows) > 1]
    scale = target.score_range
    groups = []
    for group in near:
        rows = frame.iloc[group]
        if rows["reference_id"].nunique() > 1:
            groups.append(
                {
                    "images": rows["name"].tolist(),
                    "scores": rows["mos"].tolist(),
                    "parts": sorted(set(rows["part"]) - {""}),
                    "equal_files": bool(rows["image_id"].nunique() == 1),
                    "score_difference": float(np.ptp(rows["mos"])) / (scale.mos_max - scale.mos_min),
                }
            )
    groups.sort(key=lambda group: -group["score_difference"])
    return {
        "equal_files": {"groups": len(equal), "images": sum(map(len, equal))},
        "within_references": len(near) - len(groups),
        "across_references": {"groups": len(groups), "images": sum(len(group["images"]) for group in groups)},
        "across_training_and_test": sum({"train", "test"} <= set(group["parts"]) for group in groups),
        "groups": groups,
    }


def _joined(reference_ids: Sequence[str], near: list[list[int]]) -> tuple[str, ...]:
    numbers = {reference: number for number, reference in enumerate(dict.fromkeys(reference_ids))}
    pairs = [(numbers[reference_ids[group[0]]], numbers[reference_ids[row]]) for group in near for row in group[1:]]
    if not pairs:
        return tuple(reference_ids)
    references = list(numbers)
    name_of = {
        references[member]: references[group[0]]
        for group in groups_of(np.array(pairs), len(references))
        for member in group
    }
    return tuple(name_of.get(reference, reference) for reference in reference_ids)

"""Inspection of a target: facts of all files, findings, a page, and splits for others to use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from grmp_core.datasets.labelled_set import LabelledSet, relative
from grmp_core.evaluation.split_tables import Parts, SplitTable, shared_references, to_csv
from grmp_core.inspection.inspected_set import InspectedSet, TrainingPhotos, inspect_set
from grmp_core.inspection.leaks import training_hashes
from grmp_core.model.bundle import LEARNED_FROM, read_bundle
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.file_survey import survey
from pipelines.few_shot.labelled_target import bad_rows, load_target
from pipelines.few_shot.target_splits import split_table
from pipelines.inspection.page import build_page, findings
from pipelines.rendering.document import to_html
from pipelines.runtime.console import say
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.scoring.model_lookup import resolve_model


@dataclass(frozen=True)
class Inspection:
    """Result of `grmp inspect`."""

    content: dict[str, Any]
    """`InspectedSet.content`, with the places of the files."""

    def as_json(self) -> dict[str, Any]:
        return self.content

    def as_text(self) -> str:
        scores, files = self.content["scores"], self.content["files"]
        lines = [
            f"{self.content['images']} images, {self.content['references']['count']} references, scores "
            f"{scores['min']:.4g} to {scores['max']:.4g}",
            *(findings(self.content) or ["nothing that needs a closer look"]),
        ]
        return "\n".join([*lines, *files.values()])


def inspect_target(config: Config) -> Inspection:
    """Write inspection.html and inspection.json into `<output>/inspect`, and the splits where they are asked for."""
    started = time.time()
    folder = output_folder(config, "inspect")
    target = load_target(config.target)
    if config.inspect.write_splits is not None:
        locate(config.inspect.write_splits).check_writable()
    training = _training_photos(config)
    inspected = inspect_set(target, survey("inspect", target.image_paths, config.images), training)
    files = {"html": (folder / "inspection.html").uri, "json": (folder / "inspection.json").uri}
    if config.inspect.write_splits is not None:
        files["splits"] = _write_splits(config, target, inspected)
    page = build_page(inspected, target.root, config.inspect, config.images)
    (folder / "inspection.html").write_bytes(to_html(page).encode())
    content = {**inspected.content, "files": files}
    (folder / "inspection.json").write_json(content)
    unreadable = tuple({"path": row["name"], "reason": row["error"]} for row in content["unreadable"])
    write_manifest(
        folder,
        "inspect",
        config,
        started,
        inputs={"target": target.fingerprint()},
        counts={"images": len(target), "unreadable": len(unreadable)},
        rejected=(*bad_rows(target), *unreadable),
    )
    return Inspection(content)


def _training_photos(config: Config) -> TrainingPhotos:
    if config.inspect.model is None:
        backbone = config.backbone
        return TrainingPhotos(model=backbone.name, hashes=training_hashes(backbone.name, backbone.checkpoint))
    model = resolve_model(config.inspect.model, config)
    bundle = read_bundle(model.folder)
    return TrainingPhotos(
        model=model.name,
        hashes=training_hashes(bundle.backbone.name, bundle.backbone.checkpoint),
        learned_from=frozenset(bundle.provenance.get(LEARNED_FROM, ())),
    )


def _write_splits(config: Config, target: LabelledSet, inspected: InspectedSet) -> str:
    """Splits, given or drawn, of the images that can be read and leak from no training, near-duplicates on one side."""
    table = split_table(config.sweep, target)
    usable = np.flatnonzero(inspected.usable)
    given: dict[str, Parts]
    if table.given:
        readable = {
            name: tuple(part if good else None for part, good in zip(parts, inspected.usable, strict=True))
            for name, parts in table.given.items()
        }
        given = {name: _without_shared(name, parts, inspected.joined_ids) for name, parts in readable.items()}
    else:
        joined = SplitTable(
            reference_ids=tuple(inspected.joined_ids[row] for row in usable), test_fraction=config.sweep.test_fraction
        )
        given = {f"split_{seed}": _parts(joined, seed, usable, len(target)) for seed in config.sweep.split_seeds}
    file = locate(config.inspect.write_splits or "")
    file.write_bytes(to_csv([relative(path, target.root) for path in target.image_paths], given).encode())
    return file.uri


def _without_shared(name: str, parts: Parts, joined_ids: tuple[str, ...]) -> Parts:
    """Without the training images whose near-duplicates, or other images of their reference, are tested on."""
    shared = set(shared_references(parts, joined_ids))
    leave = [part == "train" and joined in shared for part, joined in zip(parts, joined_ids, strict=True)]
    if any(leave):
        say(
            f"inspect: {sum(leave)} of {parts.count('train')} training images are left out of the split {name}: "
            "near-duplicates of them, or images of the same reference, are tested on"
        )
    return tuple(None if left else part for part, left in zip(parts, leave, strict=True))


def _parts(table: SplitTable, seed: int, usable: np.ndarray, count: int) -> Parts:
    parts = np.full(count, None, dtype=object)
    drawn = table.split(seed)
    parts[usable[drawn.train]] = "train"
    parts[usable[drawn.test]] = "test"
    return tuple(parts)

"""Explain images: a few in this process, many with Ray Data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from grmp_core.model.bundle import Bundle
from pipelines.configuration.schema import Config
from pipelines.explaining.explainer_worker import ROWS, ExplainerWorker
from pipelines.runtime.capacity import how_many_fit, require
from pipelines.runtime.console import table
from pipelines.runtime.progress import Progress
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring.batch_scorer import parquet_of
from pipelines.scoring.image_tables import ImageInput
from pipelines.scoring.inputs import find_images
from pipelines.scoring.model_lookup import open_model

FEW = 8
"""Up to so many images are explained in this process: starting Ray would take longer."""
_SHOWN = 10


@dataclass(frozen=True)
class Explained:
    """Result of `grmp explain`."""

    rows: list[dict[str, Any]]
    """Of `explainer_worker.ROWS`, in the order of the images."""
    facts: dict[str, Any] | None
    """Of the image, where there is one only."""
    output: str
    not_taken: Sequence[NotTaken] = ()

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["error"] is not None]

    @property
    def exit_code(self) -> int:
        """1 when no image at all could be explained."""
        return int(len(self.failed) == len(self.rows))

    def as_json(self) -> dict[str, Any]:
        if self.facts is not None:
            return self.facts | {"files": self.rows[0]["files"]}
        counts = {"explained": len(self.rows) - len(self.failed), "failed": len(self.failed)}
        return {"images": self.rows, "output": self.output, **counts, "not_taken": [n.as_row() for n in self.not_taken]}

    def as_text(self) -> str:
        if self.facts is not None:
            return "\n".join([*self.facts["sentences"], f"{self.rows[0]['files']}.html"])
        good = sorted((row for row in self.rows if row["error"] is None), key=lambda row: row["quality"])
        shown = (*good[:_SHOWN], *self.failed[:_SHOWN])
        names = (
            "image_path",
            "quality",
            "lowest",
            "undamaged",
            "damage",
            "probability",
            "trusted",
            "trusted_value",
            "error",
        )
        summary = f"explained {len(good)}, {len(self.failed)} failed"
        lines = [f"the worst {_SHOWN}:"] if len(good) > _SHOWN else []
        return "\n".join([*lines, table([{n: row[n] for n in names} for row in shown]), summary, self.output])


def explain_images(config: Config) -> Explained:
    """Explain `explain.images` with `score.model`; write `<output>/explain`.

    InputError, before any image is explained, for images, an output or a model that cannot be used.
    """
    started = time.time()
    if not config.explain.images:
        raise InputError("nothing to explain: name images (grmp explain a.jpg), or set explain.images")
    folder = output_folder(config, "explain")
    (folder / "explanations.parquet").check_writable()
    inputs = find_images(config.explain.images)
    model, bundle = open_model(config)
    facts = None
    if len(inputs.images) <= FEW:
        worker = ExplainerWorker(config, bundle, model)
        explained = [worker.row(image) for image in inputs.images]
        rows = [row for row, _ in explained]
        facts = explained[0][1] if len(explained) == 1 else None
    else:
        rows = _in_order(inputs.images, _on_cluster(config, bundle, model, inputs.images))
    (folder / "explanations.parquet").write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=ROWS)))
    (folder / "explanations.csv").write_bytes(pd.DataFrame(rows).to_csv(index=False).encode())
    result = Explained(rows, facts, folder.uri, inputs.not_taken)
    if len(rows) == 1 and facts is None:
        raise InputError(f"{rows[0]['image_path']}: {rows[0]['error']}")
    write_manifest(
        folder,
        "explain",
        config,
        started,
        inputs={"model": model},
        counts={"images": len(rows), "failed": len(result.failed), "not_taken": len(inputs.not_taken)},
        rejected=[{"path": row["image_path"], "reason": row["error"]} for row in result.failed],
        not_taken=[left.as_row() for left in inputs.not_taken],
    )
    return result


def _in_order(images: Sequence[ImageInput], rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows come in any order; a name that came twice has equal rows."""
    found = {row["image_path"]: row for row in rows}
    return [found[image.name] for image in images]


def _on_cluster(config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput]) -> Iterator[dict[str, Any]]:
    settings, weights = config.score, bundle.backbone.checkpoint
    with ray_session():
        shipped = [ray.put(Path(weights).read_bytes())] if weights else []
        share = {"GPU": settings.gpus_per_worker} if settings.gpus_per_worker else {"CPU": 1.0}
        fix = "lower score.workers or score.gpus_per_worker (0 explains on CPUs)"
        require(share, settings.workers or 1, config.wait_for_nodes_s, "explaining wants", fix)
        pool = settings.workers or how_many_fit(share)
        rows = ray.data.from_items(
            [dataclasses.asdict(image) for image in images], override_num_blocks=min(len(images), 8 * pool)
        )
        explained = rows.map_batches(
            ExplainerWorker,
            fn_constructor_args=(config, bundle, where, shipped),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=pool),
            num_gpus=settings.gpus_per_worker or None,
        )
        with Progress("explain", len(images), "image") as progress:
            for done, row in enumerate(explained.iter_rows(), start=1):
                progress.to(done)
                yield row

"""Explain images: a few in this process, many with Ray Data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from grmp_core.errors import InputError
from grmp_core.imaging.listing import NotTaken
from pipelines.configuration.schema import Config
from pipelines.explaining.explainer_worker import ROWS, ExplainerWorker
from pipelines.runtime.computing import lacks_gpu
from pipelines.runtime.console import table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.scoring.cluster_rows import rows_on_cluster
from pipelines.scoring.file_rows import FileRows, content_of
from pipelines.scoring.inputs import find_images
from pipelines.scoring.model_lookup import open_model
from pipelines.scoring.score_rows import parquet_of

FEW = 8
"""Up to so many images are explained in this process, unless a GPU is asked for that it lacks: starting Ray would take
longer."""
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Explained(FileRows):
    """Result of `grmp explain`; rows of `explainer_worker.ROWS`."""

    facts: dict[str, Any] | None
    """Of the image, where there is one only and its files can be read here."""
    not_taken: Sequence[NotTaken] = ()

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
    if len(inputs.images) <= FEW and not lacks_gpu(config.score.gpus_per_worker):
        worker = ExplainerWorker(config, bundle, model)
        explained = [worker.row(image) for image in inputs.images]
        rows = [row for row, _ in explained]
        facts = explained[0][1] if len(explained) == 1 else None
    else:
        made = rows_on_cluster(
            config,
            bundle,
            ExplainerWorker,
            (config, bundle, model),
            [dataclasses.asdict(image) for image in inputs.images],
            command="explain",
            unit="image",
            rows_of_a_block=FEW,
        )
        found = {row.pop("key"): row for row in made}  # in any order; an image that came twice has equal rows
        rows = [found[image.key] for image in inputs.images]
        facts = content_of(rows)
    (folder / "explanations.parquet").write_bytes(parquet_of(pa.Table.from_pylist(rows, schema=ROWS)))
    (folder / "explanations.csv").write_bytes(pd.DataFrame(rows).to_csv(index=False).encode())
    result = Explained(rows=rows, output=folder.uri, facts=facts, not_taken=inputs.not_taken)
    if len(rows) == 1 and rows[0]["error"] is not None:
        raise InputError(f"{rows[0]['image_path']}: {rows[0]['error']}")
    write_manifest(
        folder,
        "explain",
        config,
        started,
        inputs={"model": model},
        counts={"images": len(rows), "failed": len(result.failed), "not_taken": len(inputs.not_taken)},
        rejected=result.rejected("image_path"),
        not_taken=[left.as_row() for left in inputs.not_taken],
    )
    return result

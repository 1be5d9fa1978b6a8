"""Facts of all image files of a target: in this process where they are few, else with Ray Data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.imaging.decoding import ImageLimits
from grmp_core.inspection.image_facts import ImageFacts, facts_of
from pipelines.runtime.progress import Progress
from pipelines.runtime.ray_session import ray_session

FEW = 256
"""Up to so many images are read in this process: starting Ray would take longer."""
_ROWS_OF_A_CALL = 32


def survey(name: str, paths: Sequence[str], limits: ImageLimits) -> pd.DataFrame:
    """A row an image, in order, with the columns of `ImageFacts`; `name` is that of the command."""
    few = len(paths) <= FEW
    with Progress(name, len(paths), "image") as progress:
        parts = []
        for part in _in_process(paths, limits) if few else _on_cluster(paths, limits):
            parts.append(part)
            progress.to(sum(map(len, parts)))
    return pd.concat(parts).sort_values("row", ignore_index=True).drop(columns="row")


def _in_process(paths: Sequence[str], limits: ImageLimits) -> Iterator[pd.DataFrame]:
    for start in range(0, len(paths), _ROWS_OF_A_CALL):
        rows = np.arange(start, min(start + _ROWS_OF_A_CALL, len(paths)))
        yield pd.DataFrame(_facts({"row": rows, "path": np.array(paths, dtype=object)[rows]}, limits))


def _on_cluster(paths: Sequence[str], limits: ImageLimits) -> Iterator[pd.DataFrame]:
    import ray
    from ray.data import TaskPoolStrategy

    with ray_session():
        pool = int(ray.cluster_resources()["CPU"])
        blocks = min(-(-len(paths) // _ROWS_OF_A_CALL), 16 * pool)
        rows = ray.data.from_pandas(pd.DataFrame({"row": np.arange(len(paths)), "path": list(paths)}))
        surveyed = rows.repartition(blocks).map_batches(
            _facts,  # type: ignore[arg-type]  # with its further argument
            fn_args=(limits,),
            batch_size=_ROWS_OF_A_CALL,
            compute=TaskPoolStrategy(size=pool),
        )
        yield from surveyed.iter_batches(batch_size=None, batch_format="pandas")


def _facts(batch: dict[str, np.ndarray], limits: ImageLimits) -> dict[str, Any]:
    rows = [asdict(facts_of(str(path), limits)) for path in batch["path"]]
    columns = {field.name: [row[field.name] for row in rows] for field in fields(ImageFacts)}
    return {"row": batch["row"], **columns, "perceptual_hash": np.array(columns["perceptual_hash"], dtype=np.uint64)}

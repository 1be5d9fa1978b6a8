"""Scores of images by Ray Data workers that hold the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from ray import ObjectRef

from grmp_core.imaging.decoding import ImageLimits
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Source
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.runtime.computing import prepare_to_compute
from pipelines.scoring.cluster_rows import rows_on_cluster, with_weights_here
from pipelines.scoring.configured_scorer import configured_scorer
from pipelines.scoring.image_tables import ImageInput, ImageReader
from pipelines.scoring.score_rows import PART_ROWS, SCORED, row_of

ROWS_OF_A_CALL = 16
"""Images of one call of a worker, which reads and decodes them one by one."""


def score_on_cluster(
    config: Config, bundle: Bundle, where: str, images: Sequence[ImageInput]
) -> Iterator[dict[str, Any]]:
    """Rows of SCORED, in any order."""
    return rows_on_cluster(
        config,
        bundle,
        ScoringWorker,
        (bundle, where, config.images, config.score),
        [dataclasses.asdict(image) for image in images],
        command="score",
        unit="image",
        rows_of_a_block=PART_ROWS,
        rows_of_a_call=ROWS_OF_A_CALL,
    )


class ScoringWorker:
    """A Ray Data worker that holds the model."""

    def __init__(
        self,
        bundle: Bundle,
        where: str,
        limits: ImageLimits,
        settings: ScoreConfig,
        weights: list[ObjectRef[bytes]],
    ) -> None:
        """weights: content of the backbone's own file, where it has one, for nodes that do not see it."""
        prepare_to_compute()
        self.scorer = configured_scorer(settings, with_weights_here(bundle, weights), where, limits)
        self.reader = ImageReader()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Inputs -> SCORED; one image is read and decoded at a time."""
        images = [ImageInput(**row) for row in rows.to_pylist()]
        stamps = []

        def sources() -> Iterator[Source]:
            for image in images:
                source, of_image = self.reader.read_stamped(image)
                stamps.append(of_image)
                yield source

        scores = self.scorer.score(sources())
        return pa.Table.from_pylist([row_of(*of) for of in zip(images, scores, stamps, strict=True)], schema=SCORED)

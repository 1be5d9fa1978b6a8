"""The scorer that a configuration asks for: one rule for `score`, `explain`, videos and the server."""

from __future__ import annotations

from grmp_core.imaging.decoding import ImageLimits
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Scorer, ScoreTrust
from pipelines.configuration.scoring import ScoreConfig


def configured_scorer(
    settings: ScoreConfig, bundle: Bundle, where: str, limits: ImageLimits, *, gpus: float | None = None
) -> Scorer:
    """A scorer with the batch, grid, coverage and share of unlike images of `settings`.

    Args:
        where: names the bundle in messages.
        gpus: of the process; null: `score.gpus_per_worker`. Above 0 the model is on the GPU.
    """
    return Scorer(
        bundle,
        where,
        limits=limits,
        device="cuda" if (settings.gpus_per_worker if gpus is None else gpus) > 0 else "cpu",
        batch_size=settings.batch_size,
        score_grid=settings.grid,
        trust=ScoreTrust(coverage=settings.coverage, unlike_share=settings.unlike_share),
    )

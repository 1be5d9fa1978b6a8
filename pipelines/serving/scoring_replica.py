"""The process that holds the model: scores images in batches, and changes the model when its alias moves."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from ray import serve

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Score, Scorer
from pipelines.configuration.schema import Config
from pipelines.runtime import metrics
from pipelines.runtime.computing import prepare_to_compute
from pipelines.scoring.configured_scorer import configured_scorer
from pipelines.scoring.model_lookup import open_model, resolve_model
from pipelines.serving.answers import Row, row_without_score

LOGGER = logging.getLogger("ray.serve")
_FAILURES_OF_A_SICK_REPLICA = 3
_LATE = ImageError("its time was over before its turn came")


@dataclass(frozen=True)
class ServedModel:
    name: str
    """`models:/name/version`, or the address of a bundle's folder."""
    scorer: Scorer


@dataclass(frozen=True)
class Waiting:
    """An image in the queue of a replica."""

    data: bytes
    deadline: float
    """Of `time.monotonic` here."""


@dataclass(frozen=True, kw_only=True)
class ServedLimits(ImageLimits):
    """Of images that are sent by anyone: fewer pixels than other commands take."""

    max_pixels_setting: ClassVar[str] = "serve.max_pixels"


def served_limits(config: Config) -> ImageLimits:
    """`images`, with `serve.max_pixels` where that is no more."""
    images, max_pixels = config.images, config.serve.max_pixels
    if images.max_pixels < max_pixels:
        return images
    return ServedLimits(**{**dataclasses.asdict(images), "max_pixels": max_pixels})


def served_model(config: Config) -> ServedModel:
    """The model that `score.model` names, scoring as `grmp score` does."""
    settings = config.serve
    name, bundle = open_model(config)
    scorer = configured_scorer(config.score, bundle, name, served_limits(config), gpus=settings.gpus_per_replica)
    return ServedModel(name, scorer)


class ScoringReplica:
    """A replica of the scoring deployment."""

    def __init__(self, config: Config) -> None:
        """Loads the model. InputError when there is none."""
        prepare_to_compute()
        self.config = config
        self.model = served_model(config)
        self.failures = 0
        self.decoding, self.computing = ThreadPoolExecutor(1, "decoding"), ThreadPoolExecutor(1, "computing")
        self.score_batch.set_max_batch_size(config.serve.images_of_a_batch)  # type: ignore[attr-defined]
        self.score_batch.set_batch_wait_timeout_s(config.serve.batch_wait_ms / 1000)  # type: ignore[attr-defined]
        self.follower: asyncio.Task[None] | None = None

    async def score(self, data: bytes, time_left_s: float) -> dict[str, Any]:
        """An encoded image -> a `Row` without its name, as plain JSON types."""
        self.follow()
        return await self.score_batch(Waiting(data, time.monotonic() + time_left_s))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0)
    async def score_batch(self, images: list[Waiting]) -> list[dict[str, Any]]:
        """Rows of a batch, all of one model."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.decoding, self._score, self.model, images)

    def _score(self, model: ServedModel, images: Sequence[Waiting]) -> list[dict[str, Any]]:
        metrics.observe("grmp_batch_images", len(images))
        scorer = model.scorer
        views = (scorer.views_of(_LATE if image.deadline < time.monotonic() else image.data) for image in images)
        self.failures += 1  # until it has worked
        rows = [_row_of(score, model.name) for score in self.computing.map(scorer.score_views, views)]
        self.failures = 0
        return rows

    async def facts(self) -> dict[str, Any]:
        """A `ModelFacts` of the model that scores at the moment."""
        self.follow()
        return _facts_of(self.model.name, self.model.scorer.bundle)

    async def check_health(self) -> None:
        """Called by Serve, which replaces a replica that raises."""
        self.follow()
        if self.failures >= _FAILURES_OF_A_SICK_REPLICA:
            raise RuntimeError(f"the last {self.failures} batches could not be computed")

    def follow(self) -> None:
        """See that the alias is followed, by a task of the event loop that the requests run in."""
        if self.config.serve.follow_s and (self.follower is None or self.follower.done()):
            self.follower = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        """Look at the alias at the multiples of `follow_s` by the clock, so that all replicas change together."""
        every_s = self.config.serve.follow_s
        while True:
            await asyncio.sleep(every_s - time.time() % every_s)
            try:
                model = await asyncio.to_thread(self._newer)
            except Exception as error:  # whatever is wrong with the registry or a version, the old one goes on
                metrics.count("grmp_model_loads", outcome="failed")
                LOGGER.error("%s goes on: the model could not be looked at again: %s", self.model.name, error)
                continue
            if model is not None:
                metrics.count("grmp_model_loads", outcome="loaded")
                LOGGER.warning("%s takes over from %s", model.name, self.model.name)
                self.model = model

    def _newer(self) -> ServedModel | None:
        uri = self.config.score.model or f"models:/{self.config.register.name}@champion"
        if not uri.startswith("models:") or resolve_model(uri, self.config).name == self.model.name:
            return None
        return served_model(self.config)


def _row_of(score: Score, model: str) -> dict[str, Any]:
    """A Row without its name: the fields of a Score by their names."""
    fields = {name: _or_null(value) for name, value in dataclasses.asdict(score).items() if name in Row.model_fields}
    return {**row_without_score("", ""), **fields, "model": None if score.error else model, "notes": list(score.notes)}


def _facts_of(name: str, bundle: Bundle) -> dict[str, Any]:
    scale = bundle.score_range
    return {
        "model": name,
        "mos_scale": scale and {"min": scale.mos_min, "max": scale.mos_max, "higher_is_better": scale.higher_is_better},
        "metrics": {measure: _or_null(value) for measure, value in sorted(bundle.metrics.items())},
        "backbone": bundle.backbone.name,
        "views": {"mode": bundle.views.mode, "score_grid": bundle.views.score_grid},
        "precision": bundle.precision,
        "digest": bundle.digest,
        "origin": {key: value for key, value in sorted(bundle.provenance.items()) if not isinstance(value, list)},
    }


def _or_null(value: Any) -> Any:
    """JSON does not know NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

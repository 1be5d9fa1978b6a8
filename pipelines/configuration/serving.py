"""Configuration sections of online scoring, and of watching its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class DriftConfig(Settings):
    """Scores to compare with those at registration, of `score.model` or the champion."""

    scores: PathText | None = None
    """Table that `grmp score` wrote, .parquet or .csv."""
    reference: PathText | None = None
    """Earlier table to compare with; null: the scores of the held-out images and the distances of the labelled ones,
    noted when the model was registered, or in the trial's folder of a sweep."""
    max_distance: Annotated[float, Ge(0), Le(1)] = 0.1
    """Kolmogorov-Smirnov distance up to which scores and distances have not drifted; above it they have, where p is
    below 0.01."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Settings):
    """Online scoring over HTTP. The model and its views are those of `score`."""

    host: Annotated[str, MinLen(1)] = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs a token, sent as `Authorization: Bearer TOKEN`."""
    port: Annotated[int, Ge(1), Le(65535)] = 8000
    """Port to listen on."""
    token_file: PathText | None = None
    """File that keeps the token, made where it is missing; null: a new token every time, printed at the start."""
    follow_s: Annotated[float, Ge(0)] = 30
    """Seconds between two looks at where the model's alias points; a new version takes over without a pause, and a
    version that cannot be loaded does not. 0: never."""
    replicas: Annotated[int, Ge(1)] = 1
    """Processes that hold the model, at least."""
    max_replicas: Annotated[int, Ge(0)] = 0
    """Processes that autoscaling may start, at most; 0: always `replicas`."""
    target_load: Annotated[float, Gt(0)] = 3
    """Images in work and waiting per replica that autoscaling aims at."""
    gpus_per_replica: Annotated[float, Ge(0)] = 0
    """GPUs of a replica, a fraction packs several on one; 0: it computes on one CPU."""
    ingresses: Annotated[int, Ge(1)] = 1
    """Processes that take the requests apart. Each has the limits below for itself."""
    batch_size: Annotated[int, Ge(0)] = 0
    """Images that a replica takes in one call, at most; they are answered together, and one is decoded while another
    is computed. 0: 1 on CPUs, 8 on GPUs. Every image has forward passes of its own, so that its score does not depend
    on the others, to the last bit."""
    batch_wait_ms: Annotated[float, Ge(0)] = 0
    """Milliseconds that the first image of a batch waits for others; 0: only what waits already shares its batch."""
    max_images: Annotated[int, Ge(1)] = 32
    """Images of one request, at most."""
    max_image_bytes: Annotated[int, Ge(1)] = 32 * MIB
    """Bytes of one encoded image, at most; a larger one costs its own row."""
    max_request_bytes: Annotated[int, Ge(1)] = 64 * MIB
    """Bytes of the body of one request, at most (413)."""
    max_pixels: Annotated[int, Ge(1)] = 50_000_000
    """Width x height of an image, at most; `images.max_pixels` where that is less."""
    max_queue: Annotated[int, Ge(1)] = 256
    """Images in work and waiting, at most; further requests are answered 429 with a Retry-After."""
    max_queue_bytes: Annotated[int, Ge(1)] = 512 * MIB
    """Bytes of the requests in work and waiting, at most, likewise."""
    timeout_s: Annotated[float, Gt(0)] = 30
    """Seconds of one request from its first byte to its answer; then 504, and its images are not scored any more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_replicas and self.max_replicas < self.replicas:
            raise InputError(
                f"serve.max_replicas {self.max_replicas} is below serve.replicas ({self.replicas}); "
                "use 0 for no autoscaling"
            )
        for larger, smaller in (("max_queue", "max_images"), ("max_queue_bytes", "max_request_bytes")):
            if getattr(self, larger) < getattr(self, smaller):
                raise InputError(
                    f"serve.{larger} {getattr(self, larger)} is below serve.{smaller} ({getattr(self, smaller)}): "
                    "one request could never be taken"
                )

    @property
    def images_of_a_batch(self) -> int:
        """`batch_size` with its 0 resolved."""
        return self.batch_size or (8 if self.gpus_per_replica else 1)

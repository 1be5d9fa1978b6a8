"""The Serve application: an ingress, and behind it the replicas that score.

`build` makes it for `serve deploy` and KubeRay's RayService, `application` for a program.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.configuration.serving import ServeConfig
from pipelines.runtime.web_access import token_of
from pipelines.serving.ingress import Ingress
from pipelines.serving.scoring_replica import ScoringReplica

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
_DRAIN_S = 5.0
_WAITING = 32
"""Images that wait at a replica beside a batch. Serve's router looks at full replicas more and more rarely, up to half
a second apart: with few waiting, they run dry in the meantime."""


class Arguments(BaseModel):
    """Arguments of an application in a Serve configuration."""

    model_config = ConfigDict(extra="forbid")
    config: str | None = None
    """YAML configuration, as seen by the cluster."""
    set: tuple[str, ...] = ()
    """`section.key=value`, as --set has them."""


def build(arguments: Arguments) -> serve.Application:
    """The application of a Serve configuration. It always asks for a token: Serve listens where that file says."""
    config = load_config(arguments.config, arguments.set)
    return application(config, token_of(config.serve.token_file, "serve.token_file"), frozenset())


def application(config: Config, token: str | None, hosts: frozenset[str]) -> serve.Application:
    """The application of a configuration, with `token` and `hosts` as `web_app.make_app` has them."""
    settings = config.serve
    scoring = serve.deployment(ScoringReplica, name="scoring").options(  # type: ignore[attr-defined]  # Ray's overloads
        ray_actor_options=share_of(settings),
        max_ongoing_requests=2 * settings.images_of_a_batch + _WAITING,
        graceful_shutdown_timeout_s=settings.timeout_s,
        graceful_shutdown_wait_loop_s=1.0,
        logging_config=QUIET,
        **_scaling(settings),
    )
    ingress = serve.deployment(serve.ingress()(Ingress), name="ingress").options(  # type: ignore[attr-defined]
        num_replicas=settings.ingresses,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=2 * settings.max_queue,  # what is too much is refused by itself, with a Retry-After
        graceful_shutdown_timeout_s=settings.timeout_s + _DRAIN_S,
        graceful_shutdown_wait_loop_s=1.0,
        logging_config=QUIET,
    )
    handle: Any = scoring.bind(config)
    return ingress.bind(handle, settings, token, hosts)


def share_of(settings: ServeConfig) -> dict[str, float]:
    """Resources of a scoring replica: one CPU, or a part of a GPU."""
    if settings.gpus_per_replica:
        return {"num_cpus": 0, "num_gpus": settings.gpus_per_replica}
    return {"num_cpus": 1}


def _scaling(settings: ServeConfig) -> dict[str, Any]:
    if settings.max_replicas <= settings.replicas:
        return {"num_replicas": settings.replicas}
    scaling = AutoscalingConfig(
        min_replicas=settings.replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=settings.target_load,
    )
    return {"autoscaling_config": scaling}

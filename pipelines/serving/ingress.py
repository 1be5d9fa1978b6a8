"""The process between the clients and the replicas that score. It holds no model."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from pipelines.configuration.serving import ServeConfig
from pipelines.runtime import metrics
from pipelines.serving.answers import row_without_score
from pipelines.serving.web_app import make_app

_DIED = (RayActorError, ReplicaUnavailableError)


class Ingress:
    """An ingress: the web application, with the scoring replicas behind it."""

    def __init__(
        self, scoring: DeploymentHandle, settings: ServeConfig, token: str | None, hosts: frozenset[str]
    ) -> None:
        self.scoring, self.settings, self.token, self.hosts = scoring, settings, token, hosts

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve after the constructor."""
        return make_app(self, self.settings, token=self.token, hosts=self.hosts)

    async def score(self, data: bytes, time_left_s: float) -> dict[str, Any]:
        """A Row of `answers`. An image whose replica dies is asked for once more, of another one."""
        for again in (True, False):
            try:
                return await self.scoring.score.remote(data, time_left_s)
            except _DIED:
                if again:
                    metrics.count("grmp_retries")
            except RayTaskError as error:
                return row_without_score("", f"cannot be computed ({type(error.cause).__name__})")
        return row_without_score("", "the process that scored it ended, twice")

    async def facts(self) -> dict[str, Any]:
        """A ModelFacts of `answers`."""
        try:
            return await self.scoring.facts.remote()
        except _DIED:
            return await self.scoring.facts.remote()

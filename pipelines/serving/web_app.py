"""The web application of the scoring server: who may ask, what is taken on, and what is answered."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from grmp_core.errors import ImageError
from pipelines.configuration.serving import ServeConfig
from pipelines.runtime import metrics
from pipelines.runtime.web_access import is_called, is_token
from pipelines.serving.admission import Admission, BusyError
from pipelines.serving.answers import Answer, Health, ModelFacts, kind_of_reason, row_without_score
from pipelines.serving.uploads import RefusedError, Upload, read_uploads

MAX_HEADER_BYTES = 64 * 1024
HEALTH_S = 5
"""Seconds that a scoring process has to answer before the server counts as unhealthy."""
NO_MODEL = "no model answers"
LOGGER = logging.getLogger("ray.serve")
_HEALTH_KEPT_S = 2
"""Seconds that an answer about the health holds: anyone may ask for it, as often as they like."""
_RECENT_S = 30
"""A server that has scored within so many seconds is healthy without a question to its busy processes."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "additionalProperties": False,
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string"},
                        "description": "base64 of encoded image files; data:image/…;base64, may stand before it",
                    }
                },
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}
_REFUSALS = {
    400: "the body is not what its type says",
    401: "without the token",
    413: "too many bytes or images",
    415: "another type of body",
    429: "the queue is full; Retry-After says when to come again",
    504: "not scored in time",
}


class Backend(Protocol):
    """The scoring side of the server: replicas of Ray Serve, or a stand-in."""

    async def score(self, data: bytes, time_left_s: float) -> dict[str, Any]: ...

    async def facts(self) -> dict[str, Any]: ...


def make_app(backend: Backend, settings: ServeConfig, *, token: str | None, hosts: frozenset[str]) -> FastAPI:
    """The application.

    Args:
        token: asked of every request but `/health`, as `Authorization: Bearer TOKEN`; null: none is.
        hosts: names that requests may call this server by; empty: any.
    """
    admission = Admission(settings.max_queue, settings.max_queue_bytes)
    latest, condition = _Latest(), _Health(backend)

    app = FastAPI(
        title="grmp serve",
        description="Quality of images as people would score it.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(_Guard, token=token, hosts=hosts)
    app.router.redirect_slashes = False

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return _problem(429, str(error), {"Retry-After": str(error.retry_after_s), "Connection": "close"})

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return _problem(error.status, str(error), {"Connection": "close"})

    refusals: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in _REFUSALS.items()}

    @app.post("/score", response_model=Answer, responses=refusals, openapi_extra={"requestBody": _BODY})
    async def score(request: Request) -> Response:
        """Score images: several multipart files, a JSON list of base64 texts, or one image as the body itself.

        A bad image costs its own row only. URLs and paths are not followed.
        """
        started = time.monotonic()
        try:
            with admission.request() as ticket:
                async with asyncio.timeout(settings.timeout_s):
                    uploads = await read_uploads(request, settings, ticket)
                    metrics.observe("grmp_images_waiting", admission.images)
                    deadline = started + settings.timeout_s
                    rows = await _all(_row(backend, upload, deadline - time.monotonic()) for upload in uploads)
                    admission.has_scored(len(rows))
        except TimeoutError as error:
            raise RefusedError(504, f"not scored within {settings.timeout_s:g} s") from error
        _record(rows, latest)
        metrics.observe("grmp_request_seconds", time.monotonic() - started)
        return _answer({"images": rows})

    @app.get("/health", response_model=Health)
    async def health() -> Response:
        """200 when a model answers. The one page that asks for no token."""
        if time.monotonic() - latest.at < _RECENT_S:
            return _answer({"status": "ok", "model": latest.model})
        return _answer(*await condition.ask())

    @app.get("/model", response_model=ModelFacts, responses={503: {"description": NO_MODEL}})
    async def model() -> Response:
        """The model that scores at the moment: its scale and direction, how well it agrees with people, its origin."""
        return _answer((await _facts(backend, settings.timeout_s)).model_dump(mode="json"))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        from pipelines.serving.reference_page import reference_page  # it brings matplotlib, by the pages' templates

        return HTMLResponse(await asyncio.to_thread(reference_page, app.openapi()), headers=_HEADERS)

    return app


async def _facts(backend: Backend, timeout_s: float) -> ModelFacts:
    """Of the model. RefusedError, 503, where it does not answer in time, or with an error."""
    try:
        async with asyncio.timeout(timeout_s):
            return ModelFacts.model_validate(await backend.facts())
    except Exception as error:  # Ray has many for a process that ended, cannot be reached, or could not load a model
        LOGGER.warning(NO_MODEL, exc_info=not isinstance(error, TimeoutError))
        raise RefusedError(503, NO_MODEL) from error


class _Health:
    """Whether a model answers. All who ask at a time share one call of the backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._call: asyncio.Task[tuple[dict[str, Any], int]] | None = None
        self._kept: tuple[dict[str, Any], int] | None = None
        self._kept_until = -math.inf

    async def ask(self) -> tuple[dict[str, Any], int]:
        """Content and status of the answer."""
        if self._kept is not None and time.monotonic() < self._kept_until:
            return self._kept
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(self._ask_backend())
        return await asyncio.shield(self._call)  # one who goes away does not end it for the others

    async def _ask_backend(self) -> tuple[dict[str, Any], int]:
        try:
            facts = await _facts(self._backend, HEALTH_S)
            self._kept = {"status": "ok", "model": facts.model}, 200
        except RefusedError as error:
            self._kept = {"status": str(error), "model": None}, error.status
        self._kept_until = time.monotonic() + _HEALTH_KEPT_S
        return self._kept


async def _all(rows: Iterable[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All rows, then the first error: none is left running behind an answer."""
    good = []
    for result in await asyncio.gather(*rows, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        good.append(result)
    return good


async def _row(backend: Backend, upload: Upload, time_left_s: float) -> dict[str, Any]:
    if isinstance(upload.data, ImageError):
        return row_without_score(upload.name, upload.data.reason)
    return {**await backend.score(upload.data, time_left_s), "name": upload.name}


class _Guard:
    """Refuses a request before its body is read."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str]) -> None:
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADER_BYTES:
            return _problem(431, f"more than {MAX_HEADER_BYTES} bytes of headers")
        if self.hosts and not is_called(request.headers.get("host", ""), self.hosts):
            return _problem(421, "call the server by the address that grmp serve has printed")
        if self.token is None or request.scope["path"] == "/health":  # url.path may follow the Host header
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not is_token(given.strip(), self.token):
            return _problem(401, "send the token as Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        return None


@dataclass
class _Latest:
    """The latest score."""

    at: float = -math.inf
    model: str | None = None


def _record(rows: list[dict[str, Any]], latest: _Latest) -> None:
    for row in rows:
        if row["error"] is not None:
            metrics.count("grmp_images_rejected", reason=kind_of_reason(row["error"]))
            continue
        latest.at, latest.model = time.monotonic(), row["model"]
        metrics.count("grmp_images_scored", model=row["model"])
        metrics.observe("grmp_score", row["quality"], model=row["model"])
        if row["unlike"]:
            metrics.count("grmp_images_unlike", model=row["model"])


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    metrics.count("grmp_requests", status=str(status))
    return JSONResponse(content, status, headers=_HEADERS)


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    metrics.count("grmp_requests", status=str(status))
    return JSONResponse({"detail": detail}, status, headers={**_HEADERS, **(headers or {})})

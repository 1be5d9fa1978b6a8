"""The web application of the rating page.

It answers to its own address only, asks for the token where there is one, and serves the images of the pool by their
keys; no request names a path.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from pydantic import BaseModel, ConfigDict

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import ImageLimits, read_image
from grmp_core.imaging.kinds import kind_of
from pipelines.labelling.image_pool import ImagePool
from pipelines.labelling.rating_session import Question, RatingSession, StaleQuestionError, name_of
from pipelines.runtime.web_access import is_called, is_token

PAGE = Path(__file__).parent / "page"
COOKIE = "grmp_rate"
_SHOWN_AS_THEY_ARE = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
"""Kinds that browsers show; all others are decoded here and sent as PNG."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
GRADES = ((1, "Bad"), (2, "Poor"), (3, "Fair"), (4, "Good"), (5, "Excellent"))


class VoteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    rater: str
    id: str
    images: list[str]
    value: int | str


class UndoRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    rater: str
    vote: str


def make_app(
    session: RatingSession, pool: ImagePool, *, title: str, hosts: frozenset[str], token: str | None
) -> FastAPI:
    """The application.

    hosts: names that requests may call this server by; empty: any. A page of another site, whose name is made to point
    here, is refused so.
    token: asked of every request, as a cookie that the link with `?token=` sets; null: none is.
    """
    app = FastAPI(title="grmp rate", docs_url=None, redoc_url=None, openapi_url=None)
    templates = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    page = templates.get_template("rate.html.j2").render(title=title, kind=session.kind, grades=GRADES)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refusal(request, hosts, token) or await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/")
    def start(request: Request) -> Response:
        if token is None or "token" not in request.query_params:
            return HTMLResponse(page)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, token, httponly=True, samesite="lax")
        return response

    @app.get("/rate.js")
    def script() -> Response:
        return FileResponse(PAGE / "rate.js", media_type="text/javascript")

    @app.get("/rate.css")
    def style() -> Response:
        return FileResponse(PAGE / "rate.css", media_type="text/css")

    @app.get("/image/{key}")
    def image(key: str) -> Response:
        file = pool.file(key)
        if file is None:
            raise HTTPException(404, "there is no such image")
        return _image_response(file, pool.limits)

    @app.get("/question")
    def question(rater: Annotated[str, Query()]) -> JSONResponse:
        return _answer(session.question(_name(rater)))

    @app.post("/vote")
    def vote(given: VoteRequest) -> JSONResponse:
        rater = _name(given.rater)
        with_errors(lambda: session.vote(rater, given.id, tuple(given.images), given.value))
        return _answer(session.question(rater))

    @app.post("/undo")
    def undo(given: UndoRequest) -> JSONResponse:
        rater = _name(given.rater)
        with_errors(lambda: session.undo(rater, given.vote))
        return _answer(session.question(rater))

    return app


def _refusal(request: Request, hosts: frozenset[str], token: str | None) -> Response | None:
    if hosts and not is_called(request.headers.get("host", ""), hosts):
        return JSONResponse({"detail": "open the page by the address that grmp rate has printed"}, status_code=421)
    if token is None:
        return None
    given = [request.cookies.get(COOKIE, "")]
    if request.url.path == "/":
        given.append(request.query_params.get("token", ""))
    if not any(is_token(text, token) for text in given):
        return JSONResponse({"detail": "open the page by the link with its token"}, status_code=401)
    return None


def with_errors(action: Callable[[], None]) -> None:
    """HTTP errors for those of a session: 409 for a question of before, 422 for no such value, 507 for a full disk."""
    try:
        action()
    except StaleQuestionError as error:
        raise HTTPException(409, str(error)) from error
    except InputError as error:
        raise HTTPException(422, str(error)) from error
    except OSError as error:
        raise HTTPException(507, f"the vote could not be written ({error.strerror})") from error


def _name(text: str) -> str:
    try:
        return name_of(text)
    except InputError as error:
        raise HTTPException(422, str(error)) from error


def _answer(question: Question) -> JSONResponse:
    return JSONResponse(asdict(question), headers={"Cache-Control": "no-store"})


def _image_response(file: str, limits: ImageLimits) -> Response:
    try:
        with open(file, "rb") as stream:
            media_type = _SHOWN_AS_THEY_ARE.get(kind_of(stream) or "")
        if media_type is not None:
            return FileResponse(file, media_type=media_type)
        png = io.BytesIO()
        Image.fromarray(read_image(file, limits)).save(png, "PNG", compress_level=1)
        return Response(png.getvalue(), media_type="image/png")
    except (OSError, ImageError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "cannot be read"
        raise HTTPException(404, f"the image cannot be shown: {reason}") from error

"""The images of one request: multipart files, JSON with base64, or the body itself. None of it touches a disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from grmp_core.errors import ImageError
from grmp_core.imaging.base64_images import from_base64
from pipelines.configuration.serving import ServeConfig
from pipelines.serving.admission import Ticket

_NAME_LETTERS = 200


class RefusedError(Exception):
    """A request that is answered with an error as a whole."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Upload:
    name: str
    """As the client calls it; for the answer only."""
    data: bytes | ImageError
    """The encoded image, or why there is none."""


async def read_uploads(request: Request, limits: ServeConfig, ticket: Ticket) -> list[Upload]:
    """The images of a request, in order. One of a bad form or size costs its own row.

    Args:
        ticket: holds the bytes of the body and the number of images from now on.

    Raises:
        RefusedError: 400 for a body that is not what its type says, 413 for too much, 415 for another type.
        BusyError: the queue has no room for it.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_request_bytes:
        raise RefusedError(413, f"the body is larger than {limits.max_request_bytes} bytes")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = _limited(request, limits.max_request_bytes, ticket)
    if kind == "multipart/form-data":
        uploads = await _of_multipart(request, body, limits)
    elif kind == "application/json":
        uploads = await asyncio.to_thread(_of_json, b"".join([chunk async for chunk in body]), limits)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        uploads = [_checked("body", b"".join([chunk async for chunk in body]), limits)]
    else:
        raise RefusedError(415, "send multipart/form-data, application/json, or one image as image/… ")
    if not uploads:
        raise RefusedError(400, "the request has no image")
    ticket.hold(images=len(uploads) - ticket.images)
    return uploads


async def _limited(request: Request, max_bytes: int, ticket: Ticket) -> AsyncGenerator[bytes, None]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            raise RefusedError(413, f"the body is larger than {max_bytes} bytes")
        ticket.hold(size_bytes=len(chunk))
        yield chunk


class _InMemoryParser(MultiPartParser):
    spool_max_size = 2**62
    """Bytes above which Starlette would write a file to disk; the body is limited before."""

    def __init__(self, headers: Headers, body: AsyncGenerator[bytes, None], max_files: int) -> None:
        super().__init__(headers, self._to_its_end(body), max_files=max_files, max_fields=0)
        self._is_complete = False

    def on_end(self) -> None:
        """Called at the closing boundary."""
        self._is_complete = True

    async def _to_its_end(self, body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The body. RefusedError behind one that is cut off, of which Starlette would leave out the last part."""
        async for chunk in body:
            yield chunk
        if not self._is_complete:
            raise RefusedError(400, "multipart: the body is cut off, it has no closing boundary")


async def _of_multipart(request: Request, body: AsyncGenerator[bytes, None], limits: ServeConfig) -> list[Upload]:
    parser = _InMemoryParser(request.headers, body, limits.max_images)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        too_many = "Too many files" in error.message
        reason = f"more than {limits.max_images} images" if too_many else f"multipart: {error.message}"
        raise RefusedError(413 if too_many else 400, reason) from error
    except (ValueError, LookupError) as error:  # of a character set that cannot decode names
        raise RefusedError(400, f"multipart: cannot be read ({type(error).__name__})") from error
    uploads = []
    for _, part in form.multi_items():
        if not isinstance(part, UploadFile):
            raise RefusedError(400, "multipart: every part has to be a file with a name")
        uploads.append(_checked(part.filename or "", await part.read(), limits))
        await part.close()
    return uploads


def _of_json(body: bytes, limits: ServeConfig) -> list[Upload]:
    # Small values take over twenty times their bytes once parsed. An image needs two commas at most: one behind it, and
    # one in front of its base64.
    if body.count(b",") > 2 * limits.max_images + 2:
        raise RefusedError(413, f"the JSON has more commas than {limits.max_images} images need")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "the body is not JSON") from error
    images = content.get("images") if isinstance(content, dict) and content.keys() == {"images"} else None
    if not isinstance(images, list):
        raise RefusedError(400, 'the JSON has to be {"images": [base64 text, …]}')
    if len(images) > limits.max_images:
        raise RefusedError(413, f"more than {limits.max_images} images")
    return [_of_text(str(i), image, limits) for i, image in enumerate(images)]


def _of_text(name: str, text: object, limits: ServeConfig) -> Upload:
    try:
        if not isinstance(text, str) or not text:
            raise ImageError(f"expected base64 text, got {type(text).__name__ if text else 'nothing'}")
        return _checked(name, from_base64(text, limits.max_request_bytes), limits)
    except ImageError as error:
        return Upload(name, error)


def _checked(name: str, data: bytes, limits: ServeConfig) -> Upload:
    short = "".join(letter if letter.isprintable() else "?" for letter in name[:_NAME_LETTERS])
    if len(data) > limits.max_image_bytes:
        return Upload(short, ImageError(f"too large: more than {limits.max_image_bytes} bytes"))
    return Upload(short, data)

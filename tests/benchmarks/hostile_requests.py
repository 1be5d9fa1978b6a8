"""Requests that nobody sends with good intentions, as functions of the server's address that return a status."""

from __future__ import annotations

import base64
import functools
import io
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests

Sender = Callable[[str], int]
CLOSED = 0
"""Status where the server closed the connection without an answer."""


def hostile_requests(count: int, rng: random.Random) -> Iterator[Sender]:
    """`count` of them, of all kinds in turn, with sizes and texts from `rng`."""
    kinds = (
        _huge_header, _many_headers, _bomb, _zip, _svg, _truncated_multipart, _endless_boundary, _paths, _urls,
        _nested_base64, _nested_json, _noise, _wrong_length, _truncated_png, _too_many, _raw_bytes, _half_a_body,
    )  # fmt: skip
    for number in range(count):
        yield kinds[number % len(kinds)](rng)


@functools.cache
def png(width: int, height: int, rows: int) -> bytes:
    """A PNG whose header claims a size, with so many rows of zeros, compressed a thousandfold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * width) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _post(**body: object) -> Sender:
    def send(url: str) -> int:
        try:
            return requests.post(f"{url}/score", timeout=150, **body).status_code  # type: ignore[arg-type]
        except requests.ConnectionError:
            return CLOSED

    return send


def _files(*contents: bytes) -> Sender:
    return _post(files=[("images", (f"{i}.png", content)) for i, content in enumerate(contents)])


def _raw(text: bytes) -> Sender:
    """Bytes as they are; then the connection is closed on this side."""

    def send(url: str) -> int:
        place = urlsplit(url)
        with socket.create_connection((place.hostname or "", place.port or 80), timeout=60) as connection:
            try:
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
            except OSError:
                return CLOSED
        return int(answer.split()[1]) if answer.startswith(b"HTTP/") else CLOSED

    return send


def _huge_header(rng: random.Random) -> Sender:
    return _post(headers={"X-Long": "x" * rng.choice([70_000, 1_000_000, 20_000_000])}, data=b"")


def _many_headers(rng: random.Random) -> Sender:
    return _post(headers={f"X-{i}": "y" * 50 for i in range(rng.choice([500, 20_000]))}, data=b"")


def _bomb(rng: random.Random) -> Sender:
    side = rng.choice([7_000, 20_000, 60_000])
    return _files(png(side, side, side if side == 7_000 else 100))


def _zip(rng: random.Random) -> Sender:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", bytes(10_000_000))
    return _files(data.getvalue())


def _svg(rng: random.Random) -> Sender:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    return _files(f'<!DOCTYPE svg [<!ENTITY a0 "x">{entities}]><svg><text>&a9;</text></svg>'.encode())


def _truncated_multipart(rng: random.Random) -> Sender:
    body = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + rng.randbytes(1000)
    return _post(data=body[: rng.randrange(len(body))], headers={"Content-Type": "multipart/form-data; boundary=b"})


def _endless_boundary(rng: random.Random) -> Sender:
    boundary = "b" * rng.choice([1_000, 50_000])
    return _post(data=b"--b--" * 100_000, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})


def _paths(rng: random.Random) -> Sender:
    name = rng.choice(["/etc/passwd", "../../../../etc/shadow", "file:///etc/passwd", "C:\\boot.ini", "a\0b.png"])
    return _post(files=[("images", (name, name.encode()))])


def _urls(rng: random.Random) -> Sender:
    return _post(
        json={"images": [rng.choice(["http://169.254.169.254/latest", "ftp://x/y", "gopher://x", "/proc/self"])]}
    )


def _nested_base64(rng: random.Random) -> Sender:
    data = png(8, 8, 8)
    for _ in range(rng.randrange(1, 20)):
        data = base64.b64encode(data)
    return _post(json={"images": [data.decode()]})


def _nested_json(rng: random.Random) -> Sender:
    return _post(
        data=b'{"images": ' + b"[" * rng.choice([1_000, 1_000_000]), headers={"Content-Type": "application/json"}
    )


def _noise(rng: random.Random) -> Sender:
    magic = rng.choice(
        [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0", b"8BPS", b""]
    )
    return _files(magic + rng.randbytes(rng.randrange(100_000)))


def _wrong_length(rng: random.Random) -> Sender:
    return _raw(b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\nx")


def _truncated_png(rng: random.Random) -> Sender:
    data = png(500, 500, 500)
    return _files(data[: rng.randrange(len(data))])


def _too_many(rng: random.Random) -> Sender:
    return _files(*[b"x"] * 1000)


def _raw_bytes(rng: random.Random) -> Sender:
    return _raw(rng.randbytes(2000))


def _half_a_body(rng: random.Random) -> Sender:
    return _raw(
        b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"
        + b"x" * 99
    )

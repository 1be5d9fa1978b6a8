"""All routes of the scoring server without Ray, by honest and by hostile requests."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from starlette.datastructures import URL

from pipelines.configuration.serving import ServeConfig
from pipelines.runtime import metrics
from pipelines.serving.answers import Row, kind_of_reason, row_without_score
from pipelines.serving.web_app import MAX_HEADER_BYTES, make_app

LINK_WORD = "some-16-letters-or-more"
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Lengths:
    """Scores an image by its number of bytes."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.times_left: list[float] = []

    async def score(self, data: bytes, time_left_s: float) -> dict[str, Any]:
        self.times_left.append(time_left_s)
        await asyncio.sleep(self.delay_s)
        if data == b"bad":
            return row_without_score("", "damaged or truncated: 3 bytes")
        scored = {
            "quality": len(data) / 1000,
            "mos_scale_score": 0.1 + len(data),
            "model": "models:/a/1",
            "error": None,
        }
        return {**row_without_score("", ""), **scored}

    async def facts(self) -> dict[str, Any]:
        await asyncio.sleep(self.delay_s)
        return {
            "model": "models:/a/1", "mos_scale": {"min": 0.0, "max": 9.0, "higher_is_better": False},
            "metrics": {"srcc": 0.9, "krcc": None}, "backbone": "x", "views": {"mode": "crops"}, "precision": "fp32",
            "digest": "0" * 64, "origin": {"shots": 5},
        }  # fmt: skip


Client = Callable[..., tuple[TestClient, Lengths]]


@pytest.fixture
def serve() -> Client:
    def make(token: str | None = None, host: str = "127.0.0.1:8000", **settings: Any) -> tuple[TestClient, Lengths]:
        backend = Lengths()
        hosts = NAMES if token is None else frozenset[str]()
        app = make_app(backend, ServeConfig(**settings), token=token, hosts=hosts)
        return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False), backend

    return make


PART = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\n\r\nx\r\n--b--\r\n'


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{i}.png", data)) for i, data in enumerate(contents)]


def test_multipart_json_and_a_plain_body_have_the_same_rows(serve):
    client, backend = serve()
    rows = client.post("/score", files=files(b"x" * 7, b"bad", b"y")).json()["images"]
    assert [(row["name"], row["quality"], row["mos_scale_score"], row["model"]) for row in rows] == [
        ("0.png", 0.007, 7.1, "models:/a/1"),
        ("1.png", None, None, None),
        ("2.png", 0.001, 1.1, "models:/a/1"),
    ]
    assert rows[1]["error"] == "damaged or truncated: 3 bytes"
    assert all(row.keys() == Row.model_fields.keys() for row in rows)
    text = [base64.b64encode(b"x" * 7).decode(), "data:image/png;base64," + base64.b64encode(b"bad").decode()]
    by_json = client.post("/score", json={"images": text}).json()["images"]
    assert [{**row, "name": ""} for row in by_json] == [{**row, "name": ""} for row in rows[:2]]
    [alone] = client.post("/score", content=b"x" * 7, headers={"Content-Type": "image/png"}).json()["images"]
    assert alone == {**rows[0], "name": "body"}
    assert all(0 < left <= ServeConfig().timeout_s for left in backend.times_left)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://example.com/a.png", "URLs are not fetched"),
        ("file:///etc/passwd", "URLs are not fetched"),
        ("/etc/passwd", "not base64"),
        ("../../secret.png", "not base64"),
        ("a", "not base64"),
        ("", "got nothing"),
        (None, "got nothing"),
        (7, "got int"),
        ([["a"]], "got list"),
    ],
)
def test_what_is_no_base64_costs_its_own_row(serve, text: object, reason: str):
    client, backend = serve()
    rows = client.post("/score", json={"images": [text, "eHl6"]}).json()["images"]
    assert reason in rows[0]["error"]
    assert rows[1]["quality"] == 0.003
    assert len(backend.times_left) == 1


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"[" * 100_000, "application/json", 400),
        (b'{"images": "eHl6"}', "application/json", 400),
        (b'{"images": ["eHl6"], "path": "/etc/passwd"}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"images": []}', "application/json", 400),
        (b"--b\r\n", "multipart/form-data", 400),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", 400),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--', "multipart/form-data; boundary=b", 400),
        (b"--b--", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n" + b"A: b\r\n" * 5000 + b"\r\nx\r\n--b--", "multipart/form-data; boundary=b", 400),
        (PART, "multipart/form-data; boundary=b; charset=undefined", 400),
        (b"x" * 2000, "image/png", 413),
        (b"<svg/>", "text/html", 415),
        (b"x", "", 415),
    ],
)
def test_a_body_that_is_none_is_refused_as_a_whole(serve, content: bytes, kind: str, status: int):
    client, backend = serve(max_request_bytes=1000 if status == 413 else 10**6, max_queue_bytes=10**7)
    response = client.post("/score", content=content, headers={"Content-Type": kind})
    assert (response.status_code, backend.times_left) == (status, [])
    assert response.json()["detail"]


def test_a_multipart_body_without_its_end_is_refused(serve):
    """Cut anywhere: no image is left out behind an answer that looks whole."""
    client, backend = serve()
    body = PART.removesuffix(b"--\r\n") + b"\r\n" + PART.removeprefix(b"--b\r\n")
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    end = len(body) - len(b"\r\n")
    for length in range(0, end, 5):
        response = client.post("/score", content=body[:length], headers=kind)
        assert (response.status_code, backend.times_left) == (400, []), body[:length]
    assert "the body is cut off" in client.post("/score", content=body[: end - 1], headers=kind).json()["detail"]
    for whole in (body[:end], body):
        assert len(client.post("/score", content=whole, headers=kind).json()["images"]) == 2


def test_a_body_without_a_length_is_counted_as_it_comes(serve):
    client, _ = serve(max_request_bytes=1000)
    pulled = []

    def endless():
        for i in range(100):
            pulled.append(i)
            yield b"x" * 100

    assert client.post("/score", content=endless(), headers={"Content-Type": "image/png"}).status_code == 413


def test_limits_of_images_and_their_size(serve):
    client, backend = serve(max_images=2, max_image_bytes=10)
    assert client.post("/score", files=files(b"a", b"b", b"c")).status_code == 413
    assert client.post("/score", json={"images": ["eHl6"] * 3}).status_code == 413
    assert not backend.times_left
    rows = client.post("/score", files=files(b"x" * 11, b"x" * 10)).json()["images"]
    assert rows[0]["error"] == "too large: more than 10 bytes"
    assert rows[1]["quality"] == 0.01


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_json_of_many_small_values_is_refused_before_it_is_parsed(serve, monkeypatch, encoding: str):
    """They take over twenty times their bytes of memory, which the queue does not count."""
    client, _ = serve(max_images=3)
    kind = {"Content-Type": "application/json"}
    text = json.dumps({"images": ["data:image/png;base64,eHl6"] * 3})
    assert len(client.post("/score", content=text.encode(encoding), headers=kind).json()["images"]) == 3

    def parse(body: bytes) -> None:
        raise MemoryError("parsed")

    monkeypatch.setattr("pipelines.serving.uploads.json", SimpleNamespace(loads=parse))
    for many in ('{"images": [[]' + ",[]" * 10 + "]}", "{" + ",".join(f'"{i}": 0' for i in range(10)) + "}"):
        response = client.post("/score", content=many.encode(encoding), headers=kind)
        assert (response.status_code, response.json()["detail"]) == (413, "the JSON has more commas than 3 images need")


def test_names_of_files_are_only_shown(serve):
    client, _ = serve()
    sent = [("images", (name, b"x")) for name in ("../../etc/passwd", "a\x07b", "n" * 500)]
    names = [row["name"] for row in client.post("/score", files=sent).json()["images"]]
    assert names[0] == "../../etc/passwd"
    assert names[1] in ("a?b", "a%07b")
    assert len(names[2]) == 200


def test_uploads_never_touch_the_disk(serve, monkeypatch):
    """Starlette alone writes what is larger than 1 MB to a temporary file."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    client, _ = serve()
    [row] = client.post("/score", files=files(b"x" * 3_000_000)).json()["images"]
    assert row["quality"] == 3000


def test_a_full_queue_is_answered_429_and_empties_again(serve):
    client, backend = serve(max_queue=3, max_images=3)
    backend.delay_s = 0.5
    with client:  # one event loop for all threads
        first = threading.Thread(target=client.post, args=("/score",), kwargs={"files": files(b"a", b"b")})
        first.start()
        while len(backend.times_left) < 2:
            time.sleep(0.01)
        response = client.post("/score", files=files(b"c", b"d"))
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert client.post("/score", files=files(b"c")).status_code == 200
        first.join()
        assert client.post("/score", files=files(b"a", b"b", b"c")).status_code == 200


def test_bytes_in_the_queue_are_limited_too(serve):
    client, _ = serve(max_request_bytes=1000, max_queue_bytes=1000)
    assert client.post("/score", content=b"x" * 999, headers={"Content-Type": "image/png"}).status_code == 200
    assert client.post("/score", content=b"x" * 999, headers={"Content-Type": "image/png"}).status_code == 200


def test_what_takes_too_long_is_answered_504(serve):
    client, backend = serve(timeout_s=0.2)
    backend.delay_s = 5
    started = time.monotonic()
    assert client.post("/score", files=files(b"a")).status_code == 504
    assert time.monotonic() - started < 4
    backend.delay_s = 0
    assert client.post("/score", files=files(b"a")).status_code == 200  # its place in the queue is free again


def test_an_error_of_the_backend_frees_its_place(serve, monkeypatch):
    client, backend = serve(max_queue=1, max_images=1)

    async def fail(data: bytes, time_left_s: float) -> dict[str, Any]:
        raise RuntimeError("no row")

    with monkeypatch.context() as broken:
        broken.setattr(backend, "score", fail)
        assert client.post("/score", files=files(b"a")).status_code == 500
    assert client.post("/score", files=files(b"a")).status_code == 200


@pytest.mark.parametrize("path", ["/score", "/model", "/docs", "/openapi.json", "/nothing"])
def test_everything_but_the_health_asks_for_the_token(serve, path: str):
    client, backend = serve(token=LINK_WORD, host="any.name:1")
    method = "POST" if path == "/score" else "GET"
    for header in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": LINK_WORD},
        {"Authorization": "Bearer"},
    ):
        assert client.request(method, path, headers=header).status_code == 401
    assert client.get(f"{path}?token={LINK_WORD}").status_code == 401
    right = client.request(method, path, headers={"Authorization": f"Bearer {LINK_WORD}"})
    assert right.status_code in (200, 404, 415)
    assert client.get("/health").json() == {"status": "ok", "model": "models:/a/1"}
    assert not backend.times_left


def test_the_name_of_the_host_opens_no_path(serve, monkeypatch):
    """As older versions of Starlette put the URL together: a Host header with a path in it decides the URL's path."""
    client, _ = serve(token=LINK_WORD, host="any.name:1")
    monkeypatch.setattr(
        Request, "url", property(lambda request: URL(f"http://any.name/health?{request.scope['path']}"))
    )
    assert client.get("/model", headers={"Host": "any.name/health?"}).status_code == 401


def test_a_name_that_another_site_points_here_is_refused(serve):
    for host, status in (("127.0.0.1:8000", 200), ("LOCALHOST:1", 200), ("[::1]:8", 200), ("evil.example:8000", 421)):
        client, _ = serve(host=host)
        assert client.get("/health").status_code == status


def test_huge_headers_are_refused(serve):
    client, _ = serve()
    assert client.get("/health", headers={"X-Long": "x" * MAX_HEADER_BYTES}).status_code == 431


def test_health_is_that_of_the_model(serve, monkeypatch):
    monkeypatch.setattr("pipelines.serving.web_app.HEALTH_S", 0.1)
    client, backend = serve()
    backend.delay_s = 2
    assert client.get("/health").status_code == 503
    backend.delay_s = 0
    client.post("/score", files=files(b"a"))
    backend.delay_s = 2  # busy: it has just scored
    assert client.get("/health").json() == {"status": "ok", "model": "models:/a/1"}


def test_those_who_ask_for_the_health_share_a_call_and_its_answer_for_a_while(serve, monkeypatch):
    client, backend = serve()
    calls, answers = [], []
    facts = backend.facts

    async def counted() -> dict[str, Any]:
        calls.append(time.monotonic())
        return await facts()

    def ask() -> None:
        answers.append(client.get("/health").json())

    monkeypatch.setattr(backend, "facts", counted)
    monkeypatch.setattr("pipelines.serving.web_app._HEALTH_KEPT_S", 1000)
    backend.delay_s = 0.5
    with client:  # one event loop for all threads
        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ask()
        assert answers == [{"status": "ok", "model": "models:/a/1"}] * 6
        assert len(calls) == 1
    monkeypatch.setattr("pipelines.serving.web_app._HEALTH_KEPT_S", 0)
    client, backend = serve()
    monkeypatch.setattr(backend, "facts", counted)
    for number in (2, 3):
        ask()
        assert len(calls) == number


def test_an_error_of_the_backend_is_no_healthy_model(serve, monkeypatch):
    client, backend = serve()

    async def fail() -> dict[str, Any]:
        raise RuntimeError("no replica")

    monkeypatch.setattr(backend, "facts", fail)
    health, model = client.get("/health"), client.get("/model")
    assert (health.status_code, health.json()) == (503, {"status": "no model answers", "model": None})
    assert (model.status_code, model.json()) == (503, {"detail": "no model answers"})


def test_the_model_says_its_scale_and_direction(serve):
    client, _ = serve()
    facts = client.get("/model").json()
    assert facts["mos_scale"] == {"min": 0, "max": 9, "higher_is_better": False}
    assert facts["metrics"] == {"srcc": 0.9, "krcc": None}
    assert facts["origin"] == {"shots": 5}


def test_the_reference_page_loads_and_runs_nothing(serve):
    client, _ = serve()
    page = client.get("/docs")
    for text in ("POST /score", "GET /health", "mos_scale_score", "number or null", "list of Row", "Retry-After"):
        assert text in page.text
    assert not any(word in page.text.lower() for word in ("<script", "<link", "src=", "@import", "http://", "https://"))
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/score", "/health", "/model"}
    assert set(described["paths"]["/score"]["post"]["requestBody"]["content"]) >= {"multipart/form-data"}


def test_what_is_counted(serve, monkeypatch):
    counted: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(metrics, "count", lambda name, amount=1, **tags: counted.append((name, tags)))
    monkeypatch.setattr(metrics, "observe", lambda name, value, **tags: counted.append((name, tags)))
    client, _ = serve()
    client.post("/score", files=files(b"a", b"bad"))
    client.get("/nothing")
    assert {name for name, _ in counted} <= metrics.METRICS.keys()
    assert ("grmp_images_scored", {"model": "models:/a/1"}) in counted
    assert ("grmp_images_rejected", {"reason": "damaged or truncated"}) in counted
    assert ("grmp_requests", {"status": "200"}) in counted


def test_reasons_fall_into_few_kinds():
    assert kind_of_reason("too large: 20000x20000 is more than 7 pixels") == "too large"
    assert kind_of_reason("cannot be decoded (OSError: x)") == "cannot be decoded"
    assert kind_of_reason("7 things") == "other"

"""A rater at the real page in a headless Chromium, while the server is killed and started again."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grmp_core.ratings.vote_log import read_log
from tests.pipelines.labelling.folders import write_image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt-get install chromium)")
GRADES = [1, 2, 3, 4, 5, 4, 3, 2, 1, 5]
NEXT = "done => document.getElementById('count').textContent === `${done} of 10`"
READY = "#answers button:enabled"


class Server:
    """`grmp rate` in a process of its own, always on the same port."""

    def __init__(self, folder: Path, *settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        options = (f"rate.port={self.port}", "rate.order=random", *settings)
        sets = [part for option in options for part in ("--set", option)]
        self._command = [sys.executable, "-m", "pipelines.rate", str(folder), *sets]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        assert any(re.search(r"open http://127", line) for line in self.process.stderr)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(10):
        write_image(tmp_path / f"фото {i}.png", i, (1600, 1000) if i % 2 else (300, 200))
    return tmp_path


def opened(browser: object, server: Server, width: int, height: int, rater: str) -> object:
    """The page behind its first form; whatever goes wrong in it fails the test."""
    page = browser.new_page(viewport={"width": width, "height": height})  # type: ignore[attr-defined]
    page.set_default_timeout(15_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.fill("#name", rater)
    page.press("#name", "Enter")
    page.wait_for_selector(READY)
    return page


def fits(page: object) -> bool:
    return page.evaluate(  # type: ignore[attr-defined]
        "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"
    )


def test_ten_images_with_two_kills_by_keyboard_and_mouse(browser, folder: Path):
    server = Server(folder, "rate.repeat_every=0")
    try:
        page = opened(browser, server, 1280, 800, "Анна")
        assert fits(page)
        for done, value in enumerate(GRADES):
            page.wait_for_selector(READY)
            if done in (3, 6):
                server.kill()
            if done % 2:
                page.click(f"#answers button[data-value='{value}']")
            else:
                page.keyboard.press(str(value))
            if done in (3, 6):
                page.keyboard.press("1")  # while the answer is on its way: not a second vote
                page.wait_for_selector("#notice:has-text('sent again')")
                server.start()
            page.wait_for_function(NEXT, arg=done + 1)
        page.wait_for_selector("#panel h2:has-text('Thank you')")
        page.keyboard.press("u")
        page.wait_for_function(NEXT, arg=9)
        page.wait_for_selector(READY)
        page.keyboard.press("2")
        page.wait_for_function(NEXT, arg=10)
        assert page.errors == []
        page.close()
    finally:
        server.kill()
    history = read_log(str(folder / "votes.jsonl"))
    assert [vote.value for vote in history.votes] == [*GRADES[:-1], 2]
    assert {vote.images[0] for vote in history.votes} == {f"фото {i}.png" for i in range(10)}
    assert len(history.entries) == 12
    assert history.notes == ()


def test_pairs_on_a_phone_with_zoom(browser, folder: Path):
    server = Server(folder, "rate.mode=pairs")
    try:
        page = opened(browser, server, 390, 844, "Bob")
        assert fits(page)
        boxes = [picture.bounding_box() for picture in page.query_selector_all(".view img")]
        assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
        page.click("#zoom")
        natural, shown = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.clientWidth])")[0]
        assert natural == shown
        assert fits(page)
        page.click("#zoom")
        for value in ("left", "same", "right"):
            page.wait_for_selector(READY)
            page.click(f"#answers button[data-value='{value}']")
        page.wait_for_function("() => document.getElementById('count').textContent === '3 of 30'")
        assert page.errors == []
        page.close()
    finally:
        server.kill()
    assert [vote.value for vote in read_log(str(folder / "votes.jsonl")).votes] == ["left", "same", "right"]

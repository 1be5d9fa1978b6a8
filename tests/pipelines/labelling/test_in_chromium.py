"""A rater at the real page in a headless Chromium, while the server is killed and started again."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
import uvicorn

from grmp_core.planning.label_gain import MIN_LABELS
from grmp_core.ratings.vote_log import VoteLog, read_log
from pipelines.configuration.labels import NextConfig, RateConfig
from pipelines.configuration.schema import Config
from pipelines.labelling.image_pool import ImagePool
from pipelines.labelling.planned_order import FIRST_PLAN, NEW_LABELS, PlannedOrder
from pipelines.labelling.rating_app import make_app
from pipelines.labelling.rating_session import RatingSession
from pipelines.planning.feature_cache import FeatureCache
from tests.pipelines.labelling.folders import write_image, write_images
from tests.pipelines.labelling.test_next import MeanColours, grade

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt-get install chromium)")
GRADES = [1, 2, 3, 4, 5, 4, 3, 2, 1, 5]
NEXT = "text => document.getElementById('count').textContent === text"
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


def opened(browser: object, server: Server | PageHere, width: int, height: int, rater: str) -> object:
    """The page behind its first form; whatever goes wrong in it fails the test."""
    page = browser.new_page(viewport={"width": width, "height": height})  # type: ignore[attr-defined]
    page.set_default_timeout(60_000)
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


def rate(page: object, server: Server, values: Sequence[int], kills: Collection[int]) -> None:
    """Answer by keys and clicks in turn. At the numbers in `kills` the server is killed and started again: before the
    answer where the number is even, so that it is sent to nobody first; else while the answer is on its way."""
    for done, value in enumerate(values):
        page.wait_for_selector(READY)  # type: ignore[attr-defined]
        is_killed, is_before = done in kills, done % 2 == 0
        if is_killed and is_before:
            server.kill()
        if done % 4 in (1, 2):
            page.click(f"#answers button[data-value='{value}']")  # type: ignore[attr-defined]
        else:
            page.keyboard.press(str(value))  # type: ignore[attr-defined]
        if is_killed and is_before:
            page.keyboard.press("1")  # type: ignore[attr-defined]  # while the answer is on its way: not a second vote
            page.wait_for_selector("#notice:has-text('sent again')")  # type: ignore[attr-defined]
        elif is_killed:
            server.kill()
        if is_killed:
            server.start()
        page.wait_for_function(NEXT, arg=f"{done + 1} of {len(values)}")  # type: ignore[attr-defined]


def test_ten_images_with_two_kills_by_keyboard_and_mouse(browser, folder: Path):
    server = Server(folder, "rate.repeat_every=0")
    try:
        page = opened(browser, server, 1280, 800, "Анна")
        assert fits(page)
        rate(page, server, GRADES, (3, 6))
        page.wait_for_selector("#panel h2:has-text('Thank you')")
        page.keyboard.press("u")
        page.wait_for_function(NEXT, arg="9 of 10")
        page.wait_for_selector(READY)
        page.keyboard.press("2")
        page.wait_for_function(NEXT, arg="10 of 10")
        assert page.errors == []
        page.close()
    finally:
        server.kill()
    history = read_log(str(folder / "votes.jsonl"))
    assert [vote.value for vote in history.votes] == [*GRADES[:-1], 2]
    assert {vote.images[0] for vote in history.votes} == {f"фото {i}.png" for i in range(10)}
    assert len(history.entries) == 12
    assert history.notes == ()


@pytest.mark.slow
def test_sixty_images_with_ten_kills(browser, tmp_path: Path):
    """No vote is lost, none is doubled, and the values are those that were given, in their order."""
    names = [f"{i:02}.png" for i in range(60)]
    folder, values = write_images(tmp_path, names), [1 + 7 * i % 5 for i in range(60)]
    server = Server(folder, "rate.repeat_every=0", "rate.images=60")
    try:
        page = opened(browser, server, 1280, 800, "Анна")
        rate(page, server, values, (2, 7, 12, 17, 23, 30, 38, 44, 51, 59))
        page.wait_for_selector("#panel h2:has-text('Thank you')")
        assert page.errors == []
        page.close()
    finally:
        server.kill()
    history = read_log(str(folder / "votes.jsonl"))
    assert [vote.value for vote in history.votes] == values
    assert sorted(vote.images[0] for vote in history.votes) == names
    assert len(history.entries) == 60
    assert history.notes == ()


class PageHere:
    """The rating page in a thread of this process, with the plan of its votes; `plan` brings it up to date."""

    def __init__(self, config: Config) -> None:
        folder = str(config.rate.folder)
        self.log = VoteLog(str(Path(folder, "votes.jsonl")))
        self.pool = ImagePool(folder, own_files=(self.log.path,))
        self.pool.scan()
        session = RatingSession(self.log, self.pool, config.rate)
        self._order = session.plan = PlannedOrder(config, self.pool, session.votes)
        self._encoder = MeanColours()
        self._cache = FeatureCache(str(Path(folder, ".features")), "mean-colours", 3)
        app = make_app(session, self.pool, title="photos", hosts=frozenset(), token=None)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]})
        self._thread.start()

    def plan(self) -> None:
        while self._order.step(self._encoder, self._cache):  # type: ignore[arg-type]
            pass

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()
        self._cache.close()
        self.log.close()


def test_the_page_says_enough_once_the_stop_rule_does(browser, tmp_path: Path):
    names = [f"{i:02}.png" for i in range(30)]
    write_images(tmp_path, names)
    log = VoteLog(str(tmp_path / "votes.jsonl"))
    log.append([grade("Ann", name, 1 + i % 5) for i, name in enumerate(names[: MIN_LABELS - NEW_LABELS])])
    log.close()
    config = Config(rate=RateConfig(folder=str(tmp_path), repeat_every=0), next=NextConfig(enough_gain=1.0))
    server = PageHere(config)
    try:
        page = opened(browser, server, 390, 844, "Ann")
        assert page.inner_text("#advice") == f"any order at first: 0 of {FIRST_PLAN} images encoded"
        server.plan()
        for done in range(MIN_LABELS - NEW_LABELS + 1, MIN_LABELS + 1):
            page.wait_for_selector(READY)
            page.keyboard.press(str(1 + done % 5))
            page.wait_for_function(NEXT, arg=f"{done} of 30")
            assert f"from {MIN_LABELS} on" in page.inner_text("#advice")
        server.plan()  # with the twentieth label
        page.wait_for_selector(READY)
        page.keyboard.press("3")
        page.wait_for_selector("#advice:has-text('enough: 10 labels more: SRCC')")
        assert fits(page)
        assert page.errors == []
        page.close()
    finally:
        server.close()


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

"""All routes of the rating page, by honest and by hostile requests."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from grmp_core.imaging.decoding import image_id, read_image
from grmp_core.ratings.vote_log import Vote, VoteLog, read_log
from pipelines.configuration.labels import RateConfig
from pipelines.labelling import rating_app
from pipelines.labelling.image_pool import ImagePool, key_of
from pipelines.labelling.rating_app import make_app
from pipelines.labelling.rating_session import RatingSession
from tests.pipelines.labelling.folders import write_image, write_images

NAMES = [f"{i}.png" for i in range(12)] + ["sub/ünï cödé 画.png"]
LINK_WORD = "some-16-letters-or-more"
HOSTS = frozenset({"127.0.0.1", "localhost"})


class Page:
    """A browser's side of the page, for a folder that may be served again and again."""

    def __init__(self, folder: Path, token: str | None = None, **settings: Any) -> None:
        self.folder = folder
        self.log = VoteLog(str(folder / "votes.jsonl"))
        self.pool = ImagePool(str(folder), own_files=(self.log.path,))
        self.pool.scan()
        self.session = RatingSession(self.log, self.pool, RateConfig(**settings))
        app = make_app(
            self.session, self.pool, title="<b>title", hosts=HOSTS if token is None else frozenset(), token=token
        )
        self.client = TestClient(app, base_url="http://127.0.0.1:8765", follow_redirects=False)

    def question(self, rater: str = "Ann") -> dict[str, Any]:
        response = self.client.get("/question", params={"rater": rater})
        assert response.status_code == 200
        return response.json()

    def vote(self, value: int | str, question: dict[str, Any], rater: str = "Ann") -> Any:
        body = {"rater": rater, "id": question["id"], "images": question["images"], "value": value}
        return self.client.post("/vote", json=body)

    def undo(self, question: dict[str, Any], rater: str = "Ann") -> Any:
        return self.client.post("/undo", json={"rater": rater, "vote": question["undo"]})

    @property
    def votes(self) -> tuple[Vote, ...]:
        return read_log(self.log.path).votes

    def restarted(self, **settings: Any) -> Page:
        self.log.close()
        return Page(self.folder, **settings)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(write_images(tmp_path, NAMES))
    yield page
    page.log.close()


def test_start_page_escapes_and_loads_nothing_from_elsewhere(page: Page):
    response = page.client.get("/")
    assert response.status_code == 200
    assert "&lt;b&gt;title" in response.text
    assert response.text.count('data-value="') == 5
    assert "http" not in response.text.replace("http-equiv", "")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    for path, kind in (("/rate.js", "text/javascript"), ("/rate.css", "text/css")):
        response = page.client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_every_vote_is_in_the_log_before_the_answer(page: Page):
    question = page.question()
    assert (question["done"], question["goal"], question["undo"]) == (0, 13, "")
    path = page.pool.path(question["images"][0])
    question = page.vote(4, question).json()
    (vote,) = page.votes
    assert (vote.rater, vote.kind, vote.images, vote.value, vote.repeat) == ("Ann", "grade", (path,), 4, False)
    assert vote.image_ids == (image_id((page.folder / str(path)).read_bytes()),)
    assert (question["done"], question["undo"]) == (1, vote.id)


def test_a_vote_that_is_sent_again_counts_once_also_after_a_restart(page: Page):
    first = page.question()
    second = page.vote(2, first).json()
    assert page.vote(5, first).json()["id"] == second["id"]
    again = page.restarted()
    assert again.question()["id"] == second["id"]
    assert again.vote(2, first).json()["id"] == second["id"]
    assert [vote.value for vote in again.votes] == [2]
    page.log = again.log


def test_undo_asks_the_same_again_and_can_be_sent_twice(page: Page):
    first = page.question()
    second = page.vote(1, first).json()
    assert page.vote(3, page.question("Bob"), "Bob").status_code == 200  # others do not move it
    again = page.undo(second).json()
    assert again["images"] == first["images"]
    assert again["id"] != first["id"]
    assert page.undo(second).json()["id"] == again["id"]
    assert page.vote(5, again).json()["id"] == second["id"]
    assert [vote.value for vote in page.votes if vote.rater == "Ann"] == [5]


def test_only_the_own_last_vote_is_taken_back(page: Page):
    first = page.vote(1, page.question()).json()
    second = page.vote(2, first).json()
    assert page.undo(first).status_code == 409
    assert page.undo(second, "Bob").status_code == 409
    assert page.undo({"undo": "nonsense"}).status_code == 409
    assert len(page.votes) == 2


def test_a_session_with_repeats(page: Page):
    asked = []
    question = page.question()
    while question["images"]:
        asked.append(question["images"][0])
        question = page.vote(3, question).json()
    assert sorted(set(asked)) == page.pool.order
    assert len(asked) == 14  # the tenth is a repeat
    assert asked[9] in asked[:4]
    assert [vote.repeat for vote in page.votes] == [i == 9 for i in range(14)]
    assert (question["done"], question["goal"]) == (13, 13)
    write_image(page.folder / "new.png")  # a folder that grows
    page.pool.scan()
    assert page.question()["images"] == [key_of("new.png")]
    assert page.question()["goal"] == 14


def test_two_raters_at_once_do_not_disturb_each_other(page: Page):
    def rate(rater: str, value: int) -> None:
        question = page.question(rater)
        while question["images"]:
            question = page.vote(value, question, rater).json()

    raters = {"Ann": 1, "Ännchen Ö. 画": 2, "Bob": 3}
    threads = [threading.Thread(target=rate, args=item) for item in raters.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert page.session.raters() == dict.fromkeys(raters, 14)
    for rater, value in raters.items():
        own = [vote for vote in page.votes if vote.rater == rater]
        assert {vote.value for vote in own} == {value}
        assert len({vote.images for vote in own if not vote.repeat}) == 13


def test_pairs(tmp_path: Path):
    page = Page(write_images(tmp_path, [f"{i}.png" for i in range(5)]), mode="pairs")
    question = page.question()
    assert question["goal"] == 10
    seen = []
    while question["images"]:
        seen.append(tuple(question["images"]))
        question = page.vote("left" if len(seen) % 2 else "same", question).json()
    assert {frozenset(pair) for pair in seen} == {frozenset(pair) for pair in seen[:9]} | {frozenset(seen[10])}
    assert len(seen) == 11
    assert seen[9][::-1] in seen[:9]  # the repeat has its sides changed
    assert page.vote(3, question).status_code == 409
    page.log.close()


def test_values_and_images_of_others_are_refused(page: Page):
    question = page.question()
    for value in (0, 6, "left", "", "4"):
        assert page.vote(value, question).status_code == 422
    for value in (None, 2.5, [1], True):
        assert page.vote(value, question).status_code == 422
    other = next(key for key in page.pool.order if key != question["images"][0])
    for images in ([other], [], ["../../etc/passwd"], [question["images"][0], other], question["images"] * 2):
        assert page.vote(3, {"id": question["id"], "images": images}).status_code == 409
    assert page.vote(3, {"id": "", "images": question["images"]}).status_code == 409
    assert page.votes == ()


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x00b", "a\u202eb"])
def test_names_that_are_none_are_refused(page: Page, name: str):
    assert page.client.get("/question", params={"rater": name}).status_code == 422
    assert page.vote(3, page.question(), name).status_code == 422
    assert page.client.get("/question").status_code == 422
    assert page.votes == ()


def test_the_same_name_in_another_unicode_form_is_the_same_rater(page: Page):
    page.vote(3, page.question("Zoe\u0308"), "Zoe\u0308")
    assert page.question(" Zo\u00eb ")["done"] == 1


def test_images_come_as_they_are_or_as_png(tmp_path: Path):
    write_images(tmp_path, ["a.png", "b.jpg", "c.webp", "d.tif", "e.ppm", "sub/ü.bmp"])
    (tmp_path / "d.tif").rename(tmp_path / "d.jpg")  # the content decides
    page = Page(tmp_path)
    for name in ("a.png", "b.jpg", "c.webp", "sub/ü.bmp"):
        response = page.client.get(f"/image/{key_of(name)}")
        assert response.content == (tmp_path / name).read_bytes()
    for name in ("d.jpg", "e.ppm"):
        response = page.client.get(f"/image/{key_of(name)}")
        assert response.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(response.content))), read_image(tmp_path / name))
    page.log.close()


@pytest.mark.parametrize(
    "path",
    [
        "/image/../votes.jsonl",
        "/image/..%2fvotes.jsonl",
        "/image/%2e%2e/%2e%2e/etc/passwd",
        "/image/%2Fetc%2Fpasswd",
        "/image//etc/passwd",
        "/image/0.png",
        "/image/votes.jsonl",
        "/image/0000000000000000",
        "/image/..\\votes.jsonl",
        "/image/%00",
        "/image/",
        "/votes.jsonl",
        "/rate.html.j2",
        "/docs",
        "/openapi.json",
        "/..%2f..%2fetc/passwd",
    ],
)
def test_nothing_but_images_of_the_folder_is_served(page: Page, path: str):
    page.vote(3, page.question())
    assert page.client.get(path).status_code == 404


def test_images_that_go_or_are_damaged_are_passed_over(page: Page):
    question = page.question()
    path = page.folder / str(page.pool.path(question["images"][0]))
    path.unlink()
    assert page.client.get(f"/image/{question['images'][0]}").status_code == 404
    response = page.vote(3, question)
    assert response.status_code == 409
    assert "gone" in response.json()["detail"]
    for name in NAMES[:6]:
        (page.folder / name).write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    question = page.question()
    usable = 0
    while question["images"]:
        usable += 1
        question = page.vote(3, question).json()
    left = [name for name in NAMES[6:] if (page.folder / name).exists()]
    assert len({vote.images for vote in page.votes}) == len(left)
    assert question["unusable"] == len(NAMES) - len(left)
    assert len(page.session.question("Ann").images) == 0


def test_a_file_that_was_replaced_is_asked_about_again(tmp_path: Path):
    page = Page(write_images(tmp_path, NAMES[:3]), repeat_every=0)
    question = page.question()
    while question["images"]:
        question = page.vote(2, question).json()
    write_image(page.folder / NAMES[1], seed=99, size=(30, 20))
    assert page.question()["images"] == [key_of(NAMES[1])]
    page = page.restarted(repeat_every=0)
    question = page.question()
    assert question["images"] == [key_of(NAMES[1])]
    assert (question["done"], question["goal"]) == (2, 3)
    after = page.vote(4, question).json()
    assert (after["images"], after["done"]) == ([], 3)
    assert not page.votes[-1].repeat
    assert page.undo(after).json()["images"] == [key_of(NAMES[1])]
    page.log.close()


@pytest.mark.parametrize("mode", ["grades", "pairs"])
def test_a_vote_on_a_file_that_was_replaced_while_it_was_shown_is_not_taken(tmp_path: Path, mode: str):
    page = Page(write_images(tmp_path, NAMES[:2]), mode=mode)
    value: int | str = 3 if mode == "grades" else "left"
    shown = page.question()
    path = page.folder / str(page.pool.path(shown["images"][-1]))
    write_image(path, seed=99, size=(30, 20))
    response = page.vote(value, shown)
    assert response.status_code == 409
    assert "has changed" in response.json()["detail"]
    assert page.votes == ()
    asked_again = page.question()
    assert asked_again["images"] == shown["images"]
    assert asked_again["id"] != shown["id"]
    after = page.vote(value, asked_again).json()
    assert after["done"] == 1
    assert page.votes[0].image_ids[-1] == image_id(path.read_bytes())
    page.log.close()


def test_the_goal_is_of_images_that_can_be_shown(tmp_path: Path):
    page = Page(write_images(tmp_path, NAMES[:3]), repeat_every=0)
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    page.pool.scan()
    question = page.question()
    while question["images"]:
        question = page.vote(2, question).json()
    assert (question["done"], question["goal"], question["unusable"]) == (3, 3, 1)
    page.log.close()


def test_an_empty_folder_waits_for_images(tmp_path: Path):
    page = Page(tmp_path)
    assert (page.question()["images"], page.question()["goal"]) == ([], 0)
    write_image(tmp_path / "a.png")
    page.pool.scan()
    assert page.question()["images"] == [key_of("a.png")]
    page.log.close()


def test_a_full_disk_is_told_and_the_vote_can_be_sent_again(page: Page, monkeypatch: pytest.MonkeyPatch):
    question = page.question()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        response = page.vote(3, question)
    assert response.status_code == 507
    assert "No space left" in response.json()["detail"]
    assert page.votes == ()
    assert page.vote(3, question).status_code == 200
    assert len(page.votes) == 1


def test_other_sites_are_refused(page: Page):
    """By the name they are called by, and because only JSON is taken, which they cannot send unasked."""
    assert page.client.get("/", headers={"Host": "evil.example:8765"}).status_code == 421
    assert page.client.get("/", headers={"Host": "localhost:8765"}).status_code == 200
    question = page.question()
    body = f'{{"rater": "Ann", "id": "{question["id"]}", "images": ["{question["images"][0]}"], "value": 3}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        response = page.client.post("/vote", content=body, headers={"Content-Type": kind})
        assert response.status_code == 422
    assert page.votes == ()


def test_a_token_opens_the_page_and_nothing_does_without_it(tmp_path: Path):
    page = Page(write_images(tmp_path, ["a.png"]), token=LINK_WORD)
    for path in ("/", "/?token=wrong", f"/question?rater=Ann&token={LINK_WORD}", "/rate.js"):
        assert page.client.get(path).status_code == 401
    assert page.client.get(f"/image/{key_of('a.png')}").status_code == 401
    assert page.client.post("/vote", json={}).status_code == 401
    response = page.client.get(f"/?token={LINK_WORD}", headers={"Host": "any.host"})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert "HttpOnly" in response.headers["set-cookie"]
    page.client.cookies.set(rating_app.COOKIE, LINK_WORD)
    assert page.client.get("/").status_code == 200
    assert page.client.get(f"/image/{key_of('a.png')}").status_code == 200
    page.log.close()

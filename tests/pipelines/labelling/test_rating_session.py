"""All raters are asked about the same images first, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from grmp_core.imaging.decoding import ImageLimits
from grmp_core.ratings.vote_log import VoteLog
from pipelines.configuration.labels import RateConfig
from pipelines.configuration.schema import Config
from pipelines.labelling import rating_server
from pipelines.labelling.image_pool import ImagePool, key_of
from pipelines.labelling.questions import WINDOW, draw
from pipelines.labelling.rating_app import make_app
from pipelines.labelling.rating_server import serve
from pipelines.labelling.rating_session import Question, RatingSession
from tests.pipelines.labelling.folders import write_image, write_images

IMAGES, RATERS = 24, ("Ann", "Bob", "Cleo")
NAMES = [f"{i}.png" for i in range(70)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos", NAMES)


def opened(folder: Path, **settings: object) -> tuple[RatingSession, VoteLog]:
    log = VoteLog(str(folder / "votes.jsonl"))
    pool = ImagePool(str(folder), own_files=(log.path,))
    pool.scan()
    config = RateConfig(**{"folder": str(folder), "images": IMAGES, "repeat_every": 0, **settings})  # type: ignore[arg-type]
    return RatingSession(log, pool, config), log


def answered(session: RatingSession, rater: str, question: Question) -> frozenset[str]:
    session.vote(rater, question.id, question.images, 3 if session.kind == "grade" else "left")
    return frozenset(question.images)


def one_after_the_other(session: RatingSession, goal: int) -> dict[str, list[frozenset[str]]]:
    return {rater: [answered(session, rater, session.question(rater)) for _ in range(goal)] for rater in RATERS}


def at_the_same_time(session: RatingSession, goal: int) -> dict[str, list[frozenset[str]]]:
    """Everyone has a question on the screen before anyone answers."""
    asked: dict[str, list[frozenset[str]]] = {rater: [] for rater in RATERS}
    for i in range(goal):
        questions = {rater: session.question(rater) for rater in RATERS[i % 3 :] + RATERS[: i % 3]}
        for rater, question in questions.items():
            asked[rater].append(answered(session, rater, question))
    return asked


def with_one_far_ahead(session: RatingSession, goal: int) -> dict[str, list[frozenset[str]]]:
    ahead = [answered(session, "Ann", session.question("Ann")) for _ in range(goal + 4)]
    others = {
        rater: [answered(session, rater, session.question(rater)) for _ in range(goal)] for rater in ("Bob", "Cleo")
    }
    return {"Ann": ahead[:goal], **others}


class RestlessPlan:
    """Another order for every question."""

    advice = ""

    def __init__(self) -> None:
        self._count = 0

    @property
    def keys(self) -> list[str]:
        self._count += 1
        return sorted((key_of(name) for name in NAMES), key=lambda key: draw(str(self._count), key))[:WINDOW]


@pytest.mark.parametrize("schedule", [one_after_the_other, at_the_same_time, with_one_far_ahead])
@pytest.mark.parametrize("variant", ["random", "planned", "pairs"])
def test_the_first_questions_of_all_raters_are_about_the_same(
    folder: Path, schedule: Callable[[RatingSession, int], dict[str, list[frozenset[str]]]], variant: str
):
    session, log = opened(folder, **({"mode": "pairs", "images": 8} if variant == "pairs" else {}))
    if variant == "planned":
        session.plan = RestlessPlan()
    asked = schedule(session, IMAGES)  # of eight images 24 of the 28 pairs are asked for
    log.close()
    assert len(set(asked["Ann"])) == IMAGES
    assert set(asked["Ann"]) == set(asked["Bob"]) == set(asked["Cleo"])
    assert asked["Ann"] != asked["Bob"]


def test_a_restart_does_not_change_which_images_these_are(folder: Path):
    session, log = opened(folder)
    session.plan = RestlessPlan()
    ann = [answered(session, "Ann", session.question("Ann")) for _ in range(IMAGES - 5)]
    log.close()
    session, log = opened(folder)
    session.plan = SimpleNamespace(keys=[key_of(name) for name in NAMES[:WINDOW]], advice="")
    bob = [answered(session, "Bob", session.question("Bob")) for _ in range(IMAGES)]
    ann += [answered(session, "Ann", session.question("Ann")) for _ in range(5)]
    log.close()
    assert set(ann) == set(bob)


def test_images_that_cannot_be_shown_are_replaced_by_the_same_ones_for_all(folder: Path):
    bad = sorted(NAMES, key=key_of)[5:20:2]
    for name in bad:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    session, log = opened(folder)
    asked = at_the_same_time(session, IMAGES)
    log.close()
    assert set(asked["Ann"]) == set(asked["Bob"]) == set(asked["Cleo"])
    assert not {key_of(name) for name in bad} & {key for images in asked["Ann"] for key in images}


def test_after_these_a_rater_goes_on_with_others(folder: Path):
    session, log = opened(folder)
    asked = [answered(session, "Ann", session.question("Ann")) for _ in range(len(NAMES))]
    assert session.question("Ann").images == ()
    log.close()
    assert len(set(asked)) == len(NAMES)


def test_images_that_are_on_a_screen_count_among_them(folder: Path):
    """Each plan has others, and all raters are asked before anyone has answered."""
    session, log = opened(folder, images=2)
    session.plan = RestlessPlan()
    asked = at_the_same_time(session, 2)
    log.close()
    assert set(asked["Ann"]) == set(asked["Bob"]) == set(asked["Cleo"])


def test_images_outside_the_limits_are_not_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "photos"
    write_image(folder / "large.ppm", size=(40, 30))
    write_image(folder / "small.ppm", size=(20, 10))
    images = []

    def rate(config: RateConfig, session: RatingSession, pool: ImagePool, order: object) -> None:
        pool.scan()
        client = TestClient(make_app(session, pool, title="", hosts=frozenset(), token=None))
        images.append(session.question("Ann").images)
        large, small = (client.get(f"/image/{key_of(name)}") for name in ("large.ppm", "small.ppm"))
        assert (large.status_code, small.status_code) == (404, 200)
        assert "raise images.max_pixels" in large.json()["detail"]

    monkeypatch.setattr(rating_server, "_run", rate)
    rated = serve(Config(images=ImageLimits(max_pixels=400), rate=RateConfig(folder=str(folder), order="random")))
    assert images == [(key_of("small.ppm"),)]
    assert "raise images.max_pixels" in rated.unusable["large.ppm"]

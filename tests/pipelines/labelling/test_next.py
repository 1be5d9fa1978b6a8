"""`grmp next`, and the same plan inside the rating page, with an encoder that needs no backbone."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import decode_image
from grmp_core.ratings.vote_log import Vote, VoteLog
from pipelines import cli
from pipelines.configuration.labels import NextConfig, RateConfig
from pipelines.configuration.schema import Config
from pipelines.labelling import next_run
from pipelines.labelling.image_pool import ImagePool
from pipelines.labelling.planned_order import FIRST_PLAN, NEW_LABELS, PlannedOrder
from pipelines.labelling.questions import WINDOW
from pipelines.labelling.rating_session import RatingSession
from pipelines.planning import encoder as planning_encoder
from pipelines.planning.encoder import Encoder, encode_files
from pipelines.planning.feature_cache import FeatureCache
from tests.grmp_core.ratings.votes import grade as grade_with_id
from tests.grmp_core.ratings.votes import pair
from tests.pipelines.labelling.folders import write_image, write_images

NAMES = [f"{i:02}.png" for i in range(60)]


def grade(rater: str, image: str, value: float) -> Vote:
    """A vote on any file of that name."""
    return replace(grade_with_id(rater, image, value), image_ids=(None,))


class MeanColours:
    """Takes the place of `Encoder`: the mean of each channel, and their mean."""

    fingerprint, width = "mean-colours", 3

    def __init__(self, config: Config | None = None) -> None:
        self.encoded = 0

    def __call__(self, data: bytes) -> tuple[np.ndarray, float]:
        self.encoded += 1
        means = np.asarray(decode_image(data)[:, :]).mean(axis=(0, 1)) / 255
        return means, float(means.mean())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(next_run, "Encoder", MeanColours)
    return write_images(tmp_path / "photos", NAMES)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert cli.main(["next", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_names_unrated_images_and_writes_them_to_a_list(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "broken.png").write_text("no image")
    first = asked(capsys, str(folder), "--count", "4")
    assert len(set(first["images"])) == 4  # type: ignore[arg-type]
    assert first["images"] == (folder / "next.txt").read_text().splitlines()
    assert first["pool"] == 60
    assert list(first["unusable"]) == ["broken.png"]  # type: ignore[call-overload]
    assert "from 20 on" in str(first["advice"])
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([grade("Ann", name, i % 5 + 1) for i, name in enumerate([*NAMES[:25], "gone.png"])])
    log.close()
    second = asked(capsys, str(folder), "--count", "40")
    assert set(second["images"]) == set(NAMES[25:])  # type: ignore[arg-type]
    assert second["labelled"] == 25
    assert second["gain"]["labels"] == 25  # type: ignore[index]
    assert second["notes"] == ["1 rated images are gone and do not count"]


def test_a_vote_on_an_earlier_file_is_no_label_of_the_present_one(folder: Path, capsys: pytest.CaptureFixture[str]):
    log = VoteLog(str(folder / "votes.jsonl"))
    votes = [grade_with_id("Ann", NAMES[0], 5), *(grade("Ann", name, 3) for name in NAMES[1:5])]
    log.append(votes)
    log.close()
    found = asked(capsys, str(folder), "--count", "60")
    assert found["labelled"] == 4
    assert NAMES[0] in found["images"]  # type: ignore[operator]
    assert found["notes"] == ["1 rated images have changed since; votes on the earlier files do not count"]
    pool = ImagePool(str(folder))
    pool.scan()
    order = PlannedOrder(Config(rate=RateConfig(folder=str(folder))), pool, lambda: votes)
    assert order._current_labels() == dict.fromkeys(NAMES[1:5], 3)


def test_votes_that_give_no_labels_yet_do_not_end_the_plan(folder: Path, capsys: pytest.CaptureFixture[str]):
    votes = [pair(NAMES[0], NAMES[1], "left"), pair(NAMES[2], NAMES[3], "left")]
    pool = ImagePool(str(folder))
    pool.scan()
    order = PlannedOrder(Config(rate=RateConfig(folder=str(folder))), pool, lambda: votes)
    encoder, cache = MeanColours(), FeatureCache(str(folder / ".cache"), "mean-colours", 3)
    for image in NAMES[4:6]:
        assert order.step(encoder, cache)  # type: ignore[arg-type]
        votes.append(pair(NAMES[0], image, "left"))
    assert capsys.readouterr().err.count("images are planned without the new votes so far") == 1
    assert order._current_labels() == {}
    votes.append(pair(NAMES[1], NAMES[2], "left"))
    assert set(order._current_labels()) == set(NAMES[:6])
    cache.close()


def test_a_sample_of_the_folder_is_encoded_and_every_rated_image(folder: Path, capsys: pytest.CaptureFixture[str]):
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([grade("Ann", name, 3) for name in NAMES[:5]])
    log.close()
    found = asked(capsys, str(folder), "--set", "next.sample=10", "--set", "next.rule=random", "--count", "20")
    assert 10 <= found["pool"] <= 15  # type: ignore[operator]
    assert found["labelled"] == 5
    assert "picked from 10 of 60 images" in str(found["notes"])


def test_nothing_to_rate_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["next", str(tmp_path)]) == 2
    assert "there is no image to rate" in capsys.readouterr().err
    assert cli.main(["next"]) == 2
    assert "rate.folder is not set" in capsys.readouterr().err


def test_an_image_is_encoded_once_whatever_it_is_called(tmp_path: Path):
    folder = write_images(tmp_path / "photos", ["a.png", "b.png"])
    encoder, cache = MeanColours(), FeatureCache(str(tmp_path / "cache"), "mean-colours", 3)

    def encoded(*names: str) -> list[int | None]:
        return [i.row for i in encode_files(encoder, cache, str(folder), names, workers=2)]  # type: ignore[arg-type]

    assert encoded("a.png", "b.png", "gone.png") == [0, 1, None]
    (folder / "a.png").rename(folder / "c.png")
    assert encoded("c.png", "b.png") == [0, 1]
    assert encoder.encoded == 2
    cache.close()


def test_only_problems_of_the_content_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An image that failed for want of rights or memory, or for a reason not known, is tried again."""
    folder = write_images(tmp_path / "photos", ["locked.png", "large.png", "strange.png", "good.png"])
    (folder / "torn.png").write_bytes(b"no image")
    names = ("locked.png", "large.png", "strange.png", "good.png", "torn.png")
    contents = {(folder / name).read_bytes(): name for name in names}
    encoder, cache = MeanColours(), FeatureCache(str(tmp_path / "cache"), "mean-colours", 3)

    def read(path: str) -> bytes:
        if path.endswith("locked.png"):
            raise ImageError("cannot be read (Permission denied)", path, transient=True)
        return Path(path).read_bytes()

    def encode(data: bytes) -> tuple[np.ndarray, float]:
        if contents[data] == "large.png":
            raise ImageError("not enough memory to decode it", transient=True)
        if contents[data] == "strange.png":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return encoder(data)

    def problems(encoder: object) -> list[str]:
        found = encode_files(encoder, cache, str(folder), names, workers=1)  # type: ignore[arg-type]
        return [image.problem.partition(" (")[0] for image in found]

    content = ["", "not an image in a known format"]
    with monkeypatch.context() as failing:
        failing.setattr(planning_encoder, "image_bytes", read)
        transient = ["cannot be read", "not enough memory to decode it", "cannot be decoded"]
        assert problems(encode) == [*transient, *content]
    assert encoder.encoded == 2
    assert problems(encoder) == ["", "", "", *content]
    assert encoder.encoded == 5  # the two of before are known
    cache.close()


def test_the_page_follows_the_plan_and_plans_again_after_votes(folder: Path):
    config = Config(rate=RateConfig(folder=str(folder), repeat_every=0), next=NextConfig(rule="coverage"))
    log = VoteLog(str(folder / "votes.jsonl"))
    pool = ImagePool(str(folder), own_files=(log.path,))
    session = RatingSession(log, pool, config.rate)
    votes: list[Vote] = []
    order = session.plan = PlannedOrder(config, pool, lambda: votes)
    encoder, cache = MeanColours(), FeatureCache(str(folder / ".cache"), "mean-colours", 3)
    assert not order.step(encoder, cache)  # type: ignore[arg-type]  # the folder is not read yet
    pool.scan()
    while not order.keys:
        images = session.question("Ann").images  # the folder's own order meanwhile, and the page says so
        assert images[0] in pool.order[:WINDOW]
        assert session.question("Ann").advice == f"any order at first: {encoder.encoded} of {FIRST_PLAN} images encoded"
        assert order.step(encoder, cache)  # type: ignore[arg-type]
    assert FIRST_PLAN <= encoder.encoded < len(NAMES)
    assert len(order.keys) == WINDOW
    assert session.question("Ann").images[0] in order.keys
    while order.step(encoder, cache):  # type: ignore[arg-type]
        pass
    whole = order.keys
    assert encoder.encoded == len(NAMES)
    votes += [grade("Ann", pool.path(key) or "", 1 + i % 5) for i, key in enumerate(whole[: NEW_LABELS - 1])]
    order.step(encoder, cache)  # type: ignore[arg-type]
    assert order.keys == whole
    votes.append(grade("Ann", pool.path(whole[NEW_LABELS - 1]) or "", 2))
    order.step(encoder, cache)  # type: ignore[arg-type]
    assert not set(order.keys) & set(whole[:NEW_LABELS])
    assert f"{NEW_LABELS} labels" in session.question("Ann").advice
    cache.close()
    log.close()


def test_the_work_of_a_step_does_not_grow_with_the_folder(folder: Path):
    """Missing images are listed when the folder or the votes are others, not for every four images."""

    class Counted(ImagePool):
        listed = 0

        @property
        def order(self) -> list[str]:
            self.listed += 1
            return super().order

    pool, votes = Counted(str(folder)), []
    pool.scan()
    order = PlannedOrder(Config(rate=RateConfig(folder=str(folder))), pool, lambda: votes)
    encoder, cache = MeanColours(), FeatureCache(str(folder / ".cache"), "mean-colours", 3)
    pool.listed = 0
    while order.step(encoder, cache):  # type: ignore[arg-type]
        pass
    assert (encoder.encoded, pool.listed) == (len(NAMES), 1)
    votes.append(grade("Ann", NAMES[0], 3))
    write_image(folder / "new.png", 99)
    pool.scan()
    pool.listed = 0
    assert order.step(encoder, cache)  # type: ignore[arg-type]
    assert (encoder.encoded, pool.listed) == (len(NAMES) + 1, 1)
    cache.close()


def test_the_model_waits_until_the_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked_for = threading.Event()

    def absent(config: Config) -> None:
        asked_for.set()
        raise InputError("there is no such backbone")

    monkeypatch.setattr(planning_encoder, "Encoder", absent)
    pool = ImagePool(str(folder))
    order = PlannedOrder(Config(rate=RateConfig(folder=str(folder))), pool, list)
    order.start()
    assert not asked_for.wait(0.5)
    pool.scan()
    assert asked_for.wait(60)
    order.stop()
    assert order.advice == "random order: images cannot be planned"


def test_the_encoder_gives_the_features_and_score_of_the_ablation(tmp_path: Path):
    from pipelines.ablation.baselines import _Measure

    folder = write_images(tmp_path, ["a.png"])
    config = Config()
    features, quality = Encoder(config)((folder / "a.png").read_bytes())
    expected = _Measure(config, set())({"row": 0, "path": str(folder / "a.png")})
    assert features == pytest.approx(expected["pooled"])
    assert quality == pytest.approx(expected["no_label"])

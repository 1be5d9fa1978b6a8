"""The images of a rated folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import image_id
from grmp_core.imaging.listing import list_images
from pipelines.labelling import image_pool
from pipelines.labelling.image_pool import ImagePool, key_of
from tests.pipelines.labelling.folders import write_image, write_images


def test_it_holds_what_list_images_takes(tmp_path: Path):
    write_images(tmp_path, ["a.png", "sub/ü b.jpg", "sub/c.png", ".hidden.png"])
    (tmp_path / "sub" / "c.png").rename(tmp_path / "sub" / "without_ending")
    os.symlink(tmp_path / "sub", tmp_path / "linked")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "votes.jsonl").write_text("")
    pool = ImagePool(str(tmp_path), own_files=(str(tmp_path / "votes.jsonl"),))
    assert not pool.is_complete
    pool.scan()
    assert {pool.file(key) for key in pool.order} == set(list_images(str(tmp_path)).paths)
    assert pool.order == sorted(key_of(path) for path in ("a.png", "sub/ü b.jpg", "sub/without_ending"))
    assert pool.summary() == "2 files not taken: .txt 1, folder 1"
    assert pool.is_complete


def test_it_grows_and_keeps_its_keys(tmp_path: Path):
    pool = ImagePool(str(write_images(tmp_path, ["a.png", "b.png"])))
    pool.scan()
    before = pool.order
    write_image(tmp_path / "c.png")
    pool.scan()
    assert set(pool.order) == {*before, key_of("c.png")}


def test_what_cannot_be_shown_is_told_until_it_can(tmp_path: Path):
    write_images(tmp_path, ["a.png", "b.png"])
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-200])
    pool = ImagePool(str(tmp_path))
    pool.scan()
    assert pool.check(key_of("a.png")) is None
    assert "truncated" in pool.unusable["a.png"]
    (tmp_path / "b.png").unlink()
    assert pool.check(key_of("b.png")) is None
    assert "gone" in pool.unusable["b.png"]
    (tmp_path / "a.png").write_bytes(whole)
    pool.scan()
    assert set(pool.unusable) == {"b.png"}
    checked = pool.check(key_of("a.png"))
    assert checked is not None
    assert checked.image_id == image_id(whole)
    assert pool.check("0123456789abcdef") is None


def test_the_first_image_is_there_while_the_folder_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of 100,000 files, as a generator that asks for the pool's length while it yields."""
    lengths = []

    def many(folder: str, left_out: list) -> object:
        for i in range(100_000):
            yield f"{folder}/{i}.png"
            if i in (0, 10, 1000):
                lengths.append(len(pool))

    monkeypatch.setattr(image_pool, "each_image", many)
    pool = ImagePool(str(tmp_path))
    pool.scan()
    assert lengths[0] == 1
    assert lengths[1] > 5
    assert lengths[2] > 500
    assert len(pool) == 100_000
    assert pool.order == sorted(pool.order)


def test_a_thread_finds_new_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_pool, "_SECONDS_BETWEEN_SCANS", 0.01)
    pool = ImagePool(str(write_images(tmp_path, ["a.png"])))
    done: list[int] = []
    pool.start(lambda: done.append(len(pool)))
    write_image(tmp_path / "b.png")
    deadline = time.monotonic() + 30
    while len(pool) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    pool.stop()
    assert len(pool) == 2
    assert len(done) == 1


def test_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        ImagePool(str(tmp_path / "absent"))

"""Features on disk: found again, shared by content, one writer, and what a kill leaves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import InputError
from pipelines.planning.feature_cache import CachedImage, FeatureCache

WIDTH = 3


def image(name: str, **changes: object) -> CachedImage:
    given = {"image_id": f"id of {name}", "row": None, "quality": 0.5, "problem": "", "path": name}
    return CachedImage(**{**given, "size": 10, "changed_ns": 7, **changes})  # type: ignore[arg-type]


def features(value: float) -> np.ndarray:
    return np.full(WIDTH, value)


def test_what_was_added_is_there_in_the_next_process(tmp_path: Path):
    cache = FeatureCache(str(tmp_path), "encoder", WIDTH)
    for i, name in enumerate(("a.png", "ünï\udcff.png", "c.png")):
        assert cache.add(image(name), features(i)).row == i
    cache.add(image("bad.png", image_id="", problem="cannot be decoded"), None)
    cache.close()
    again = FeatureCache(str(tmp_path), "encoder", WIDTH)
    images = [again.of_file(name, 10, 7) for name in ("c.png", "ünï\udcff.png")]
    pool = again.pool([found for found in images if found])
    assert pool.stored_SD[pool.rows_N].tolist() == [[2.0] * WIDTH, [1.0] * WIDTH]
    assert isinstance(pool.stored_SD, np.memmap)
    bad = again.of_file("bad.png", 10, 7)
    assert bad is not None
    assert (bad.problem, bad.row) == ("cannot be decoded", None)
    assert again.of_file("a.png", 11, 7) is None
    assert again.of_content("id of a.png") == again.of_file("a.png", 10, 7)
    assert again.of_content("") is None
    again.close()
    other = FeatureCache(str(tmp_path), "another encoder", WIDTH)
    assert other.of_file("a.png", 10, 7) is None
    other.close()


def test_a_second_process_reads_what_is_there(tmp_path: Path):
    first = FeatureCache(str(tmp_path), "encoder", WIDTH)
    first.add(image("a.png"), features(1))
    second = FeatureCache(str(tmp_path), "encoder", WIDTH)
    assert (first.can_write, second.can_write) == (True, False)
    assert second.of_file("a.png", 10, 7) is not None
    first.close()
    second.close()


def test_a_kill_in_the_middle_of_a_write_costs_one_image(tmp_path: Path):
    cache = FeatureCache(str(tmp_path), "encoder", WIDTH)
    cache.add(image("a.png"), features(1))
    cache.close()
    with open(tmp_path / "encoder" / "features.f16", "ab") as stream:
        stream.write(b"\x01\x02\x03")
    with open(tmp_path / "encoder" / "index.jsonl", "ab") as stream:
        stream.write(b'{"image_id": "half')
    again = FeatureCache(str(tmp_path), "encoder", WIDTH)
    kept = again.of_file("a.png", 10, 7)
    fresh = again.add(image("b.png"), features(2))
    assert kept is not None
    pool = again.pool([kept, fresh])
    assert pool.stored_SD[pool.rows_N].tolist() == [[1.0] * WIDTH, [2.0] * WIDTH]
    again.close()
    FeatureCache(str(tmp_path), "encoder", WIDTH).close()


def test_damage_and_a_folder_that_cannot_be_made_are_one_line(tmp_path: Path):
    FeatureCache(str(tmp_path), "encoder", WIDTH).close()
    (tmp_path / "encoder" / "index.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"line 1 is damaged .* delete"):
        FeatureCache(str(tmp_path), "encoder", WIDTH)
    (tmp_path / "encoder" / "index.jsonl").unlink()
    cache = FeatureCache(str(tmp_path), "encoder", WIDTH)
    for name in ("a.png", "b.png"):
        cache.add(image(name), features(1))
    cache.close()
    os.truncate(tmp_path / "encoder" / "features.f16", 2 * WIDTH * 2 - 1)
    with pytest.raises(InputError, match=r"features.f16 is damaged \(11 of 12 bytes\); delete"):
        FeatureCache(str(tmp_path), "encoder", WIDTH)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"set next.features"):
        FeatureCache(str(tmp_path / "file"), "encoder", WIDTH)

"""Encoded targets on disk: whole entries or none, the limit of size, and when one is found again. Without Ray."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.identity import Identity
from grmp_core.imaging import decoding
from grmp_core.imaging.decoding import decode_image, image_bytes
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.labelled_views import TokenRows
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.settings import PromptConfig, TrainableConfig
from grmp_core.storage import locate
from pipelines.ablation.arms import random_prompts
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import with_settings
from pipelines.configuration.schema import Config
from pipelines.few_shot import encoded_target, target_encoder
from pipelines.few_shot.encoded_target import EncodedTarget, encode_target
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.token_cache import ARRAYS, EntryWriter, TokenCache
from pipelines.results.sweep_folder import SweepFolder
from pipelines.sweeping import trial_pool
from tests.pipelines.scoring.conftest import encoded

ROWS = 3


def write(cache: TokenCache, key: str, value: float = 1.0) -> None:
    writer = EntryWriter(cache, key, ROWS)
    for row in (2, 0, 1):
        writer.write(row, {name: np.full((2, 5), value + row, np.float32) for name in ARRAYS})
    writer.finish([{"error": "", "image_id": str(row), "perceptual_hash": "0"} for row in range(ROWS)])


def entries(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_rows_come_back_whatever_their_order_and_stay_as_they_are(tmp_path):
    cache = TokenCache(str(tmp_path / "cache"), 1e9)
    assert cache.entry("a") is None
    write(cache, "a")
    entry = cache.entry("a")
    assert [image["image_id"] for image in entry.images()] == ["0", "1", "2"]
    arrays = entry.arrays()
    assert isinstance(arrays["train_tokens"], np.memmap)
    assert arrays["train_tokens"][:, 0, 0].tolist() == [1, 2, 3]
    arrays["train_tokens"][:] = 0
    assert entry.arrays()["train_tokens"][:, 0, 0].tolist() == [1, 2, 3]


def test_an_entry_that_was_not_finished_is_none_and_goes_after_a_day(tmp_path):
    cache = TokenCache(str(tmp_path), 1e9)
    torn = EntryWriter(cache, "a", ROWS)
    torn.write(0, {"train_tokens": np.zeros(2)})
    assert cache.entry("a") is None
    write(cache, "b")
    assert torn.folder.exists()
    os.utime(torn.folder, (0, 0))
    write(cache, "c")
    assert not torn.folder.exists()
    assert cache.entry("b")
    assert cache.entry("c")


def test_two_runs_that_write_the_same_entry_leave_one(tmp_path):
    cache = TokenCache(str(tmp_path), 1e9)
    write(cache, "a")
    write(cache, "a")
    assert entries(tmp_path) == ["a"]


def test_what_is_left_of_an_entry_is_in_nobodys_way(tmp_path):
    cache = TokenCache(str(tmp_path), 1e9)
    write(cache, "a")
    (tmp_path / "a" / "images.json").unlink()
    assert cache.entry("a") is None
    write(cache, "a", 5.0)
    assert cache.entry("a").arrays()["train_tokens"][0, 0, 0] == 5


def test_what_was_used_longest_ago_leaves_first(tmp_path, capsys):
    cache = TokenCache(str(tmp_path), 1e9)
    for age, key in enumerate("abc"):
        write(cache, key)
        os.utime(tmp_path / key, (100 + age, 100 + age))
    cache.entry("a")  # used again
    size = sum(file.stat().st_size for file in (tmp_path / "a").iterdir())
    write(TokenCache(str(tmp_path), 2.5 * size), "d")
    assert entries(tmp_path) == ["a", "d"]
    write(TokenCache(str(tmp_path), 1), "e")
    assert entries(tmp_path) == ["e"]
    assert "target.encoded_gb" in capsys.readouterr().err


def test_entries_in_use_stay_whatever_their_size(tmp_path):
    cache = TokenCache(str(tmp_path), 1)
    write(cache, "a")
    first = cache.entry("a")
    write(cache, "b")
    assert first.arrays()["train_tokens"].shape == (ROWS, 2, 5)
    del first
    write(cache, "c")
    assert entries(tmp_path) == ["c"]


def test_an_entry_stays_while_another_process_uses_it(tmp_path):
    cache = TokenCache(str(tmp_path), 1)
    write(cache, "a")
    use = "import pickle, sys; entry = pickle.load(sys.stdin.buffer); print(entry.folder.name, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", use], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdin.write(pickle.dumps(cache.entry("a")))
        other.stdin.flush()
        assert other.stdout.readline() == b"a\n"
        write(cache, "b")
        assert entries(tmp_path) == ["a", "b"]
        other.communicate(b"\n", timeout=60)
    write(cache, "c")
    assert entries(tmp_path) == ["c"]


def test_what_dies_while_it_is_deleted_is_no_entry_and_in_nobodys_way(tmp_path, monkeypatch):
    cache = TokenCache(str(tmp_path), 1)
    write(cache, "a")
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **_: (folder / "images.json").unlink(missing_ok=True))
    write(cache, "b")
    monkeypatch.undo()
    assert entries(tmp_path) == ["b"]
    assert cache.entry("a") is None
    write(cache, "a")
    assert entries(tmp_path) == ["a"]


def test_an_entry_that_cannot_be_locked_alone_stays_and_is_named(tmp_path, monkeypatch, capsys):
    cache = TokenCache(str(tmp_path), 1)
    write(cache, "a")
    flock = fcntl.flock

    def for_readers_only(handle: int, kind: int) -> None:
        if kind & fcntl.LOCK_NB:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", for_readers_only)
    write(cache, "b")
    assert entries(tmp_path) == ["a", "b"]
    assert f"{tmp_path / 'a'} stays" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"^[^\n]*set target\.encoded to a folder[^\n]*$"):
        TokenCache(str(tmp_path / "file" / "cache"), 1e9)


def test_a_folder_without_locks_is_one_line_before_anything_is_encoded(tmp_path, monkeypatch):
    def no_locks(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(InputError, match=r"^[^\n]*No locks available[^\n]*set target\.encoded[^\n]*$"):
        TokenCache(str(tmp_path), 1e9)


@pytest.fixture
def config(tmp_path, make_backbone) -> Config:
    """A target of eight pictures, one of them torn."""
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(encoded(i) if i != 5 else encoded(i)[:100])
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(8)], "mos": np.linspace(1, 9, 8)})
    table.to_csv(tmp_path / "labels.csv", index=False)

    return Config(
        backbone=make_backbone().config,
        prompts=PromptConfig(visual_tokens=2),
        adapt=AdaptConfig(trainable=TrainableConfig(vision_blocks=2)),
        views=ViewConfig(train_views=2, score_grid=2),
        target=TargetConfig(
            path=str(tmp_path / "labels.csv"), max_reject_fraction=0.5, encoded=str(tmp_path / "cache")
        ),
    )


def encode(config: Config, **options: object) -> EncodedTarget:
    target = load_target(config.target)
    protocol = Protocol(splits=SplitTable(reference_ids=tuple(target.reference_ids)), quality_N=target.quality)
    return encode_target(config, target, random_prompts(config), protocol, here=True, **options)


def test_a_sweep_holds_its_entry_between_its_trials(config, tmp_path, monkeypatch):
    monkeypatch.setattr(trial_pool, "encode_target", partial(encode_target, here=True))
    monkeypatch.setattr("ray.put", pickle.dumps)
    target, identity = load_target(config.target), Identity.of({"seed": 0})
    protocol = Protocol(splits=SplitTable(reference_ids=tuple(target.reference_ids)), quality_N=target.quality)
    folder = SweepFolder(locate(tmp_path / "sweep"))
    runner = trial_pool.Runner(config, random_prompts(config), target, protocol, folder, identity)
    shared = runner.shared
    [own] = entries(tmp_path / "cache")
    write(TokenCache(str(tmp_path / "cache"), 1), "other")
    assert own in entries(tmp_path / "cache")
    assert pickle.loads(shared.encoded).arrays["score_tokens"].shape[0] == 8  # noqa: S301  # a trial's


@pytest.fixture
def passes(config, monkeypatch) -> list[int]:
    """The number of prefixes of every pass over the images."""
    plain, counts = encoded_target.encoded_rows, []

    def counting(config, start, parts, *rest, **options):
        counts.append(len(parts))
        return plain(config, start, parts, *rest, **options)

    monkeypatch.setattr(encoded_target, "encoded_rows", counting)
    return counts


def test_a_target_is_encoded_again_only_where_that_gives_other_tokens(config, passes, tmp_path):
    first = encode(config)
    assert [entry["path"] for entry in first.unreadable] == [str(tmp_path / "5.png")]
    again = encode(dataclasses.replace(config, output=str(tmp_path / "elsewhere")))
    assert again.row.tolist() == first.row.tolist() == [0, 1, 2, 3, 4, 6, 7]
    same = ({"adapt.lr": 0.5}, {"adapt.trainable.text_context": False}, {"adapt.trainable.lora_rank": 2})
    other = (
        {"adapt.trainable.vision_blocks": 1},
        {"views.train_views": 3},
        {"prompts.visual_tokens": 3},
        {"precision": "bf16"},
        {"seed": 1},
    )
    for settings in same:
        encode(with_settings(config, settings))
    assert len(passes) == 1
    for count, settings in enumerate(other, start=2):
        encode(with_settings(config, settings))
        assert len(passes) == count, settings
    (tmp_path / "0.png").write_bytes(encoded(9))
    encode(config)
    assert len(passes) == 2 + len(other)


def out_of_memory(*given):
    raise MemoryError


@pytest.mark.parametrize("cause", ["reading", "memory"])
def test_an_image_that_failed_this_once_is_there_the_next_time(config, monkeypatch, tmp_path, cause):
    def read(path):
        return image_bytes(path.replace("2.png", "away.png"))

    def decode(data, limits):
        with monkeypatch.context() as full:
            if data == encoded(2):
                full.setattr(decoding, "load_samples", out_of_memory)
            return decode_image(data, limits)

    with monkeypatch.context() as once:
        once.setattr(target_encoder, *(("image_bytes", read) if cause == "reading" else ("decode_image", decode)))
        with pytest.raises(InputError, match=r"^[^\n]*2\.png could be read when this run began[^\n]*$"):
            encode(config)
    assert os.listdir(tmp_path / "cache") == [".lock"]
    assert encode(config).row.tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_an_image_that_nobody_can_read_costs_its_own_row(config, monkeypatch, tmp_path):
    target = load_target(config.target)
    (tmp_path / "2.png").unlink()
    monkeypatch.setattr(sys.modules[__name__], "load_target", lambda settings: target)
    assert encode(config).row.tolist() == [0, 1, 3, 4, 6, 7]


def test_arms_are_encoded_in_one_pass_and_equal_those_of_their_own(config, passes, tmp_path):
    arms = [with_settings(config, {"adapt.trainable.vision_blocks": blocks}) for blocks in (0, 1, 2)]
    arms.append(with_settings(config, {"prompts.visual_tokens": 0, "adapt.trainable.vision_blocks": 1}))
    together = encode(arms[0], also=[(arm, random_prompts(arm)) for arm in arms[1:]])
    assert passes == [4]
    shared = [together, *(encode(arm) for arm in arms[1:])]
    assert passes == [4]
    for arm, found in zip(arms, shared, strict=True):
        own = encode(with_settings(arm, {"target.encoded": str(tmp_path / "own")}))
        for name in ARRAYS:
            np.testing.assert_array_equal(own.arrays[name], found.arrays[name])


def test_arms_that_the_limit_leaves_no_room_for_are_encoded_later(config, passes):
    small = with_settings(config, {"target.encoded_gb": 1e-5})
    other = with_settings(small, {"adapt.trainable.vision_blocks": 1})
    encode(small, also=[(other, random_prompts(other))])
    encode(other)
    assert passes == [1, 1]


def test_views_map_the_file_and_hold_what_was_encoded(config):
    target = encode(config)
    rows = np.array([5, 0, 2])
    views = target.views(rows, torch.float32, torch.device("cpu"))
    assert isinstance(views.score_tokens_NGTD, TokenRows)
    assert views.score_tokens_NGTD.stored.dtype == torch.float16  # nothing is lost by it here
    held = dataclasses.replace(target, entry=None, held=target.arrays)
    copied = held.views(rows, torch.float32, torch.device("cpu"))
    for ours, expected in (
        (views.score_tokens_NGTD[:], copied.score_tokens_NGTD),
        (views.train_tokens_NVTD[torch.tensor([1]), torch.tensor([1])], copied.train_tokens_NVTD[1:2, 1]),
    ):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert views.quality_N.tolist() == copied.quality_N.tolist() == target.quality[rows].astype(np.float32).tolist()


def test_tokens_that_float16_cannot_hold_stay_float32(config, monkeypatch):
    monkeypatch.setattr(encoded_target, "HALF_TOLERANCE", 0.0)
    target = encode(config)
    assert target.arrays["train_tokens"].dtype == np.float32


def test_a_pass_that_dies_leaves_nothing(config, monkeypatch, tmp_path):
    plain = encoded_target.encoded_rows

    def dying(*given, **options):
        yield next(plain(*given, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(encoded_target, "encoded_rows", dying)
    with pytest.raises(KeyboardInterrupt):
        encode(config)
    assert os.listdir(tmp_path / "cache") == [".lock"]

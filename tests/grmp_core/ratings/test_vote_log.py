"""The vote log: what was confirmed stays, what was not is told."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from grmp_core.errors import InputError
from grmp_core.ratings.vote_log import Undo, Vote, VoteLog, read_log
from tests.grmp_core.ratings.votes import grade, pair

names = st.text(st.characters(exclude_categories=()), min_size=1).filter(str.strip)


def written(path: Path, *entries: Vote | Undo) -> None:
    log = VoteLog(str(path))
    log.append(entries)
    log.close()


def undo(vote: Vote) -> Undo:
    return Undo(id=f"undo-{vote.id}", rater=vote.rater, time=vote.time, undoes=vote.id)


@settings(max_examples=30)
@given(rater=names, image=names)
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, rater: str, image: str):
    """Also line ends, and the surrogates that Python has for bytes of a file name that are not UTF-8."""
    path = tmp_path_factory.mktemp("log") / "votes.jsonl"
    vote = grade(rater, image, 4)
    written(path, vote)
    assert read_log(str(path)).votes == (vote,)


def test_a_log_that_is_not_there_is_empty(tmp_path: Path):
    assert read_log(str(tmp_path / "none")).entries == ()


def test_undo_takes_back_one_vote(tmp_path: Path):
    first, second = grade("Ann", "a", 1), pair("a", "b", "same")
    written(tmp_path / "log", first, second, undo(first))
    history = read_log(str(tmp_path / "log"))
    assert history.votes == (second,)
    assert len(history.entries) == 3


def test_wherever_a_write_is_cut_the_votes_before_it_stay(tmp_path: Path):
    path = tmp_path / "log"
    first, second = grade("Ännchen", "ü.jpg", 1), grade("Ännchen", "b.jpg", 2)
    written(path, first)
    whole_bytes = path.stat().st_size
    written(path, second)
    data = path.read_bytes()
    for length in range(whole_bytes + 1, len(data)):
        path.write_bytes(data[:length])
        history = read_log(str(path))
        assert history.votes == (first,)
        assert "torn" in history.notes[0]
    written(path, second)  # a new writer goes on after the last whole line
    assert read_log(str(path)).votes == (first, second)
    assert read_log(str(path)).notes == ()


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"entry": "vote"}', '{"entry": "other", "id": "x"}', '{"entry": "undo", "id": "x"}']
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str):
    path = tmp_path / "log"
    written(path, grade("Ann", "a", 1))
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(InputError, match="log line 2: not an entry"):
        read_log(str(path))


def test_an_entry_that_is_there_twice_counts_once(tmp_path: Path):
    vote = grade("Ann", "a", 1)
    written(tmp_path / "log", vote, vote)
    history = read_log(str(tmp_path / "log"))
    assert history.votes == (vote,)
    assert "line 2" in history.notes[0]
    assert "twice" in history.notes[0]


def test_one_writer_at_a_time_and_none_is_left_behind_by_a_kill(tmp_path: Path):
    path = str(tmp_path / "log")
    code = (
        "import sys, time; from grmp_core.ratings.vote_log import VoteLog; "
        f"log = VoteLog({path!r}); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="another grmp rate has these votes open"):
            VoteLog(path)
        other.kill()
        other.wait()
        VoteLog(path).close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = VoteLog(str(tmp_path / "log"))
    first = grade("Ann", "a", 1)
    log.append([first])
    write = os.write

    def full_after_ten_bytes(file: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:-50])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_after_ten_bytes)
        with pytest.raises(OSError, match="No space"):
            log.append([grade("Ann", "b", 2)])
    third = grade("Ann", "c", 3)
    log.append([third])
    log.close()
    assert read_log(str(tmp_path / "log")).votes == (first, third)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="name a file that can"):
        VoteLog(str(tmp_path / "absent" / "log"))


@pytest.mark.parametrize("value", [0, 6, float("nan"), True, "good", None])
def test_what_is_no_grade_is_refused(value: float):
    with pytest.raises(InputError, match="no grade"):
        grade("Ann", "a", value)


def test_pairs_and_names_are_checked():
    with pytest.raises(InputError, match="left, same, right"):
        pair("a", "b", "both")
    with pytest.raises(InputError, match="two different"):
        pair("a", "a", "same")
    with pytest.raises(InputError, match="no name"):
        grade(" ", "a", 1)

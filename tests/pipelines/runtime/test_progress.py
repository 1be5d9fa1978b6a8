"""Progress on a terminal and in the log of a job, with a clock of our own."""

from __future__ import annotations

import io
import itertools
import re
import sys

import pytest

from pipelines.runtime import progress
from pipelines.runtime.console import say
from pipelines.runtime.progress import LINES, SILENCE_S, TERMINAL_OF_DRIVER, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest puts its own stderr in place between setup and test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def run(total: int, step_s: float, clock: Clock, **options) -> None:
    with Progress("make", total, "block", **options) as shown:
        for done in range(options.get("start", 0) + 1, total + 1):
            clock.now_s += step_s
            shown.to(done, f"{10 * done} rows")


def test_log_has_rate_and_time_left(clock, capsys):
    run(4, 0.5, clock)
    assert capsys.readouterr().err.splitlines() == [
        "make: block 1/4, 10 rows, 2.0 blocks/s, 00:01 left",
        "make: block 2/4, 20 rows, 2.0 blocks/s, 00:01 left",
        "make: block 3/4, 30 rows, 2.0 blocks/s, 00:00 left",
        "make: block 4/4, 40 rows, 2.0 blocks/s",
    ]


def test_slow_work_has_seconds_a_unit(clock, capsys):
    run(2, 90, clock)
    assert capsys.readouterr().err.splitlines()[0] == "make: block 1/2, 10 rows, 90.0 s/block, 01:30 left"


def test_rate_counts_what_was_waited_for_before(clock, capsys):
    with Progress("make", 100, "block", waited_s=20) as shown:
        shown.to(40)
    assert capsys.readouterr().err.splitlines() == ["make: block 40/100, 2.0 blocks/s, 00:30 left"]


def test_bar_counts_what_was_waited_for_before(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with Progress("make", 100, "block", waited_s=1000) as shown:
        shown.to(50)
    assert re.search(r"50%.*16:4\d<16:4\d, +20\.\d+s/ block", terminal.getvalue())


def test_log_of_much_work_has_the_first_and_last_line_and_one_for_each_twentieth(clock, capsys):
    run(10_000, 0.01, clock)
    told = [int(done) for done in re.findall(r"block (\d+)/10000", capsys.readouterr().err)]
    assert told == [1, *range(500, 10_001, 500)]
    assert len(told) == LINES + 1


def test_log_is_never_silent_for_long(clock, capsys):
    run(1000, SILENCE_S / 2, clock)
    told = [int(done) for done in re.findall(r"block (\d+)/1000", capsys.readouterr().err)]
    assert max(b - a for a, b in itertools.pairwise(told)) == 2


def test_rate_leaves_out_the_work_of_an_earlier_run(clock, capsys):
    run(100, 2, clock, start=90)
    assert capsys.readouterr().err.splitlines()[0] == "make: block 91/100, 910 rows, 2.0 s/block, 00:18 left"


def test_rate_leaves_out_the_start_of_the_workers(clock, capsys):
    with Progress("make", 100, "block") as shown:
        clock.now_s += 60
        for done in range(1, 101):
            shown.to(done)
            clock.now_s += 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "make: block 1/100, 60.0 s/block, 1:39:00 left"
    assert told[-6] == "make: block 75/100, 2.0 s/block, 00:50 left"


def test_rate_of_work_that_ends_in_waves(clock, capsys):
    """Two at a time, 30 s each: the second of a pair, at once after the first, says nothing about the rate."""
    with Progress("make", 8, "trial") as shown:
        for done in range(1, 9):
            clock.now_s += 30 if done % 2 else 0.01
            shown.to(done)
    left = [int(m) * 60 + int(s) for m, s in re.findall(r"(\d\d):(\d\d) left", capsys.readouterr().err)]
    for told_s, true_s in zip(left[1::2], (90, 60, 30), strict=True):
        assert true_s / 1.6 < told_s < 1.6 * true_s


def test_work_by_the_clock_has_no_rate(clock, capsys):
    with Progress("train", 40, "minute", timed=True) as shown:
        clock.now_s += 120
        shown.to(2.0, "300 images/s")
    assert capsys.readouterr().err == "train: minute 2.0/40, 300 images/s, 38:00 left\n"


@pytest.mark.parametrize("options", [{"shown": False}, {"start": 3}], ids=["another worker", "nothing left"])
def test_nothing_is_shown(options, clock, capsys, monkeypatch):
    run(3, 1, clock, **options)
    assert capsys.readouterr().err == ""
    terminal = open_terminal(monkeypatch)
    run(3, 1, clock, **options)
    assert terminal.getvalue() == ""


def test_terminal_has_one_bar_on_one_line(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with Progress("make", 3, "block") as shown:
        for done in (1, 2, 3):
            shown.to(done, f"{done} rows")
    text = terminal.getvalue()
    assert text.count("\n") == 1
    last = text.strip().split("\r")[-1]
    assert re.search(r"make: 100%\|.*\| 3/3 \[00:00<00:00, .* block/s, 3 rows\]", last)


def test_bar_goes_on_where_an_earlier_run_was(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with Progress("make", 10, "block", start=6) as shown:
        shown.to(7)
    text = terminal.getvalue().split("\r")
    assert any("6/10" in part for part in text)
    assert "7/10" in text[-1]


def die(shown: Progress) -> None:
    shown.to(1)
    raise RuntimeError("died")


def test_interrupted_bar_ends_its_line(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with pytest.raises(RuntimeError, match="died"), Progress("make", 3, "block") as shown:
        die(shown)
    assert terminal.getvalue().endswith("\n")


def test_a_line_beside_a_bar_stands_on_its_own(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with Progress("make", 3, "block") as shown:
        shown.to(1)
        say("make: something else")
        shown.to(3)
    assert re.search(r"\r *\rmake: something else\n", terminal.getvalue())


def test_worker_of_a_driver_with_a_terminal_draws_a_bar_there(monkeypatch):
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv(TERMINAL_OF_DRIVER, "1")
    with Progress("train", 30, "step", start=10) as shown:
        shown.to(30, "loss 0.5")
    assert re.search(r"train, loss 0.5: 100%\|.*\| 20.0/20.0 ", terminal.getvalue())

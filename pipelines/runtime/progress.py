"""Progress of a long loop: a bar with rate and time left on a terminal, a line now and then in the log of a job."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipelines.runtime.console import say

LINES = 20
"""A job log gets a line whenever another 1 / LINES of the work is done,"""
SILENCE_S = 300.0
"""and after this many seconds without one."""
MEASURED_S = 10.0
"""Shortest time that a rate is measured over: trials that run side by side end side by side."""
TERMINAL_OF_DRIVER = "GRMP_TERMINAL"
"""Variable of Ray workers whose driver shows bars on a terminal; Ray draws their bars there."""

tqdm.set_lock(threading.RLock())  # the default one is shared with processes, and takes a semaphore of the machine


class Progress:
    """Where a loop is. Use as a context manager, so that an interrupted bar ends its line.

    Args:
        name: of the command.
        total: amount of work in `unit`s.
        start: amount that an earlier run has done, which the rate leaves out.
        timed: the unit is one of time, so that there is no rate.
        shown: false for all but one of several equal workers.
        waited_s: seconds that the loop has worked before this is made; the rate counts them.
    """

    def __init__(
        self,
        name: str,
        total: float,
        unit: str,
        *,
        start: float = 0,
        timed: bool = False,
        shown: bool = True,
        waited_s: float = 0,
    ) -> None:
        self.name, self.total, self.unit, self.start, self.timed = name, total, unit, start, timed
        self._done, self._waited_s = start, waited_s
        self._lines = [(start, time.monotonic() - waited_s)]  # amount and time of begin and lines
        self._shown = shown and total > start
        self._bar = self._make_bar() if self._shown else None

    def to(self, done: float, note: str = "") -> None:
        """The loop has come to `done` units in all; `note` is shown beside it."""
        if self._bar is not None:
            self._bar.note(note)
            self._bar.update(done - self._done)
        elif self._shown:
            self._log(done, note)
        self._done = done

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_bar(self) -> Any:
        """A bar, or null without a terminal."""
        if os.environ.get(TERMINAL_OF_DRIVER):
            return _remote_bar(self)
        if not sys.stderr.isatty():
            return None
        layout = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]" if self.timed else None
        bar = _Bar(
            desc=self.name, total=self.total, initial=self.start, unit=f" {self.unit}", bar_format=layout,
            dynamic_ncols=True, smoothing=0 if self._waited_s else 0.3,
        )  # fmt: skip
        bar.start_t -= self._waited_s
        return bar

    def _log(self, done: float, note: str) -> None:
        now_s, (told, told_s) = time.monotonic(), self._lines[-1]
        first = len(self._lines) == 1
        more = int(LINES * done / self.total) > int(LINES * told / self.total)
        if first or more or now_s - told_s >= SILENCE_S:
            where = f"{done:.1f}/{self.total:g}" if self.timed else f"{done:.0f}/{self.total:.0f}"
            parts = [f"{self.unit} {where}", note, self._speed(done, now_s)]
            say(f"{self.name}: {', '.join(part for part in parts if part)}")
            self._lines.append((done, now_s))

    def _speed(self, done: float, now_s: float) -> str:
        """Rate over the second half of the work so far, which leaves out the start of workers, and the time left."""
        half = (self.start + done) / 2
        settled = [line for line in self._lines[1:] if line[0] <= half and now_s - line[1] >= MEASURED_S]
        before, before_s = settled[-1] if settled else self._lines[0]
        if done <= before or now_s <= before_s:
            return ""
        rate = (done - before) / (now_s - before_s)
        speed = f"{rate:.1f} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{self.unit}"
        left = f"{tqdm.format_interval((self.total - done) / rate)} left" if done < self.total else ""
        return ", ".join(part for part in ("" if self.timed else speed, left) if part)


class _Bar(tqdm):
    def note(self, text: str) -> None:
        self.set_postfix_str(text, refresh=False)


def _remote_bar(progress: Progress) -> Any:
    """A bar that the driver of this Ray worker draws; it starts at 0, as Ray's bars do."""
    from ray.experimental import tqdm_ray

    class RemoteBar(tqdm_ray.tqdm):
        def note(self, text: str) -> None:
            self._desc = f"{progress.name}, {text}" if text else progress.name

    return RemoteBar(desc=progress.name, total=round(progress.total - progress.start), unit=f" {progress.unit}")

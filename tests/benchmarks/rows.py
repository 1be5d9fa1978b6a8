"""Fair timing for every benchmark, and the rows of the one table that `python -m tests.benchmarks` prints."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = ("what", "compared with", "ratio", "peak memory", "whose code that is")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison, both sides measured in one run unless it is modelled."""

    what: str
    against: str
    ratio: float
    """Speed of the first over speed of the second; above 1 the first is faster."""
    whose: str
    """Origin of what it is compared with: a library or peer by name, or `stand-in` where a peer's code is not run."""
    seconds: float | None = None
    """Of `what`, on the machine of the run; null where seconds say nothing."""
    curve: str | None = None
    """Where the row is a point of how a cost grows: what grows."""
    amount: float | None = None
    """How much of it."""
    modelled: bool = False
    """Arithmetic with constants; nothing of it was run."""
    peak_mb: float | None = None
    """Of the largest process of the benchmark that the row is from; put in when it ends."""


def interleaved(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    warm: bool = True,
) -> dict[str, float]:
    """Median seconds of each way. They take turns, so that a slow minute hits all of them.

    warm: run each once before, for what is done once a process.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values() if warm else ():
        work()
    for _ in range(repeats):
        for name, work in ways.items():
            began = clock()
            work()
            seconds[name].append(clock() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def compared(seconds: Mapping[str, float], what: str, against: str, **about: Any) -> Row:
    """The row of two of the ways of `interleaved`."""
    texts = {"what": what, "against": against, **about}
    return Row(ratio=seconds[against] / seconds[what], seconds=seconds[what], **texts)


def own_peak_mb() -> float:
    """Peak memory in MB of this process, or of the largest that it started and that has ended."""
    unit = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) * unit / 1e6


def markdown(rows: Sequence[Row]) -> str:
    """The table; a curve's first point, which is compared with itself, is left out."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|--:|--:|---|"]
    for row in rows:
        if row.what == row.against:
            continue
        memory = "" if row.peak_mb is None else f"{row.peak_mb:,.0f} MB"
        whose = f"modelled, not run: {row.whose}" if row.modelled else row.whose
        lines.append(f"| {row.what} | {row.against} | {row.ratio:.2f} | {memory} | {whose} |")
    return "\n".join(lines)

"""Decodes damaged files in a process of its own: `python -m tests.grmp_core.imaging.fuzz_child FIRST COUNT PROGRESS`.

Prints JSON: how the cases came out, and which of them raised, took, or gave what they must not. The number of the case
in hand stands in the file PROGRESS, for a process that dies.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, read_image
from tests.grmp_core.imaging import pictures
from tests.grmp_core.imaging.mutations import Case, case
from tests.grmp_core.imaging.originals import originals

MAX_BYTES = 2**30
MAX_CPU_S = 2.0
LIMITS = ImageLimits(max_pixels=40_000_000)


def main(first: int, count: int, progress: Path) -> dict[str, Any]:
    """Run the cases, under a limit of memory for this process."""
    originals()
    _limit_memory()
    outcomes: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    slowest_s = 0.0
    file = os.open(progress, os.O_WRONLY | os.O_CREAT)
    for number in range(first, first + count):
        os.pwrite(file, b"%12d" % number, 0)
        tried = case(number)
        started = time.process_time()
        outcome, wrong = _try(tried)
        took_s = time.process_time() - started
        slowest_s = max(slowest_s, took_s)
        outcomes[outcome] += 1
        if took_s > MAX_CPU_S:
            wrong = f"took {took_s:.1f} s"
        if wrong:
            bad.append({"number": number, "name": tried.name, "wrong": wrong})
    return {
        "outcomes": outcomes,
        "bad": bad,
        "slowest_s": slowest_s,
        "peak_bytes": _peak_bytes(),
        "torch": "torch" in sys.modules,
    }


def _try(tried: Case) -> tuple[str, str | None]:
    """Outcome, and what is wrong with it."""
    try:
        pixels = read_image(tried.data, LIMITS)
    except ImageError as error:
        return "refused", f"an intact picture is refused: {error}" if tried.same_as else _unfit(error)
    except BaseException as error:
        return "raised", f"{type(error).__name__}: {error}"
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return "decoded", f"no RGB: {pixels.dtype} {pixels.shape}"
    if tried.same_as is None:
        return "decoded", None
    expected = pictures.upright(read_image(tried.same_as), tried.orientation)
    same = pixels.shape == expected.shape and bool((pixels == expected).all())
    return "the same", None if same else "an intact picture looks different"


def _unfit(error: ImageError) -> str | None:
    """The fault of a reason that does not fit into a table's cell."""
    return None if 0 < len(error.reason) < 300 and error.reason.isprintable() else f"reason: {error.reason!r}"


def _limit_memory() -> None:
    """A decoder may take `MAX_BYTES` of addresses on top of what the process has."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + MAX_BYTES, held + MAX_BYTES))


def _peak_bytes() -> int:
    """Of this program: `getrusage` counts what the process was before it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))

"""Memory of a worker between two pieces of work; importing this brings no torch."""

from __future__ import annotations

import ctypes
import sys

_LARGEST_KEPT_BYTES = 32 << 20
"""glibc takes no more. Larger pieces, such as a decoded picture of many megapixels, go back to the system."""
_ROOM_BYTES = 64 << 20
_NO_TRIM_BYTES = (1 << 31) - 1
_MMAP_THRESHOLD, _TOP_PAD, _TRIM_THRESHOLD = -3, -2, -1
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> None:
    """Let this process keep small pieces of memory that it frees, for the next forward pass or distortion.

    Otherwise glibc gives them back each time, and the system clears each of their pages again: nearly a tenth of the
    time of scoring, and more of that of distortions (`tests/benchmarks/bench_memory.py`). A process stays as large as
    it has been, apart from pieces above 32 MiB. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _NO_TRIM_BYTES)
        mallopt(_TOP_PAD, _ROOM_BYTES)

"""How a process of ours computes: its threads, its GPU, and its memory between forward passes."""

from __future__ import annotations

import ctypes
import sys

import torch

from grmp_core.errors import InputError

_LARGEST_KEPT_BYTES = 32 << 20
"""glibc takes no more. Larger pieces, such as a decoded picture of many megapixels, go back to the system."""
_ROOM_BYTES = 64 << 20
_NO_TRIM_BYTES = (1 << 31) - 1
_MMAP_THRESHOLD, _TOP_PAD, _TRIM_THRESHOLD = -3, -2, -1
"""Parameters of glibc's mallopt(3)."""


def prepare_to_compute(cpus: float = 1) -> None:
    """Set up a worker that computes on so many CPUs, at least one.

    It gets as many threads: with another number, kernels add up in another order, and results differ in their last
    bits. And it keeps what it frees, see `keep_freed_memory`.
    """
    torch.set_num_threads(max(1, int(cpus)))
    keep_freed_memory()


def lacks_gpu(gpus: float) -> bool:
    """Whether a GPU or a share of one is asked for that this process does not see."""
    return gpus > 0 and not torch.cuda.is_available()


def device_here(gpus: float, setting: str, workers: str) -> torch.device:
    """The GPU of this process where `gpus` is above 0, else its CPU.

    InputError where it sees no GPU. `setting` and `workers` are the keys of `gpus` and of the number of Ray's workers.
    """
    if lacks_gpu(gpus):
        raise InputError(
            f"{setting} is {gpus:g}, and this machine has no GPU that torch can use: set it to 0 for the CPU, or set "
            f"{workers} to 1 or more for workers of Ray on machines with GPUs"
        )
    return torch.device("cuda" if gpus > 0 else "cpu")


def keep_freed_memory() -> None:
    """Let this process keep small pieces of memory that it frees, for the next forward pass.

    Otherwise glibc gives them back after every pass, and the system clears each of their pages again: nearly a tenth of
    the time of scoring (`tests/benchmarks/bench_memory.py`). A process stays as large as it has been, apart from pieces
    above 32 MiB. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _NO_TRIM_BYTES)
        mallopt(_TOP_PAD, _ROOM_BYTES)

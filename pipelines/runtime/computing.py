"""How a process of ours computes: its threads, its GPU, and its memory between forward passes."""

from __future__ import annotations

import torch

from grmp_core.errors import InputError
from pipelines.runtime.kept_memory import keep_freed_memory


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

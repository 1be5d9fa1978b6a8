"""Threads, memory and GPU of a process that computes."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from grmp_core.errors import InputError
from pipelines.runtime.computing import device_here, prepare_to_compute

CLEARED_PAGES = """
import resource, sys
import numpy as np
from pipelines.runtime.kept_memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def passes(count):
    for _ in range(count):
        activations = [np.ones(side, np.float32) for side in 12 * [1 << 20]]
        del activations

passes(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_threads_are_whole_cpus_and_at_least_one():
    before = torch.get_num_threads()
    try:
        for cpus, threads in ((1, 1), (2.5, 2), (0.25, 1)):
            prepare_to_compute(cpus)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_not_cleared_again_for_the_next_pass():
    def pages(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", CLEARED_PAGES, how], check=True, capture_output=True).stdout)

    assert pages("kept") < 1000 < pages("given back")


def test_device_is_the_one_asked_for_or_one_line(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_here(0, "pretrain.gpus_per_worker", "pretrain.workers").type == "cpu"
    with pytest.raises(InputError, match=r"^pretrain\.gpus_per_worker is 0\.5, and this machine has no GPU"):
        device_here(0.5, "pretrain.gpus_per_worker", "pretrain.workers")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_here(0.5, "pretrain.gpus_per_worker", "pretrain.workers").type == "cuda"

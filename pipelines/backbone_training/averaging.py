"""The mean of several runs' weights: runs that go on from the same weights lie in one valley of the loss.

Model soups (Wortsman et al. 2022), with equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from grmp_core.errors import InputError


def average_weights(files: Sequence[Path], out: Path) -> None:
    """Write the mean of exported weights, in their own precision. InputError unless all hold the same tensors."""
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(f"no weights at {', '.join(missing)}; give the paths of exported weights")
    states = [load_file(file) for file in files]
    shapes = [{name: (tensor.shape, tensor.dtype) for name, tensor in state.items()} for state in states]
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            raise InputError(f"'{file}' and '{files[0]}' hold other tensors; average runs of one backbone")
    save_file({name: _mean([state[name] for state in states]) for name in states[0]}, out)


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    first = tensors[0]
    return torch.stack(tensors).float().mean(dim=0).to(first.dtype) if first.is_floating_point() else first

"""Low-rank updates of weight matrices (LoRA, Hu et al. 2022), as plain functions of the dict of learned tensors.

The update of a matrix W (out, in) is a pair of learned tensors, `<name of W>.down` (rank, in) and `<name of W>.up`
(out, rank): W + up · down takes W's place. The paper's factor alpha / rank is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

DOWN, UP = ".down", ".up"


def initial_pairs(weights: Mapping[str, Tensor], rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The pairs of `weights`, float32: `down` uniform within in^-1/2, `up` zero, so that nothing changes yet."""
    pairs = {}
    for name, weight in weights.items():
        rows, columns = weight.shape
        bound = 1 / math.sqrt(columns)
        pairs[name + DOWN] = torch.empty(rank, columns).uniform_(-bound, bound, generator=generator)
        pairs[name + UP] = torch.zeros(rows, rank)
    return pairs


def merged(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`parameters` with every pair replaced by the whole matrix W + up · down; differentiable in both."""
    whole = dict(parameters)
    for name, weight in weights.items():
        if name + UP in whole:
            whole[name] = torch.addmm(weight, whole.pop(name + UP), whole.pop(name + DOWN))
    return whole

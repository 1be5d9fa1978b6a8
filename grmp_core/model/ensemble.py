"""Several models as one: their learned tensors side by side, and a weight each.

In the dict of learned tensors member m's are named `ensemble.<m>.<name>`, and `ensemble.weights_M` has the weights, so
that a bundle holds an ensemble as it holds a model. All members have one backbone, and prompts and head of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.model.quality_model import Parameters, Predictor

_PREFIX = "ensemble."
WEIGHTS = f"{_PREFIX}weights_M"


def joined(members: Sequence[Mapping[str, Tensor]], weights_M: Sequence[float]) -> Parameters:
    """The learned tensors of an ensemble. ValueError for another number of weights."""
    tensors = {
        f"{_PREFIX}{m}.{name}": tensor
        for m, (member, _) in enumerate(zip(members, weights_M, strict=True))
        for name, tensor in member.items()
    }
    return {**tensors, WEIGHTS: torch.tensor(list(weights_M), dtype=torch.float64)}


def separated(parameters: Mapping[str, Tensor]) -> list[Parameters]:
    """The learned tensors of each member; of a single model its own. InputError for tensors of no member."""
    if WEIGHTS not in parameters:
        return [dict(parameters)]
    members: list[Parameters] = [{} for _ in parameters[WEIGHTS]]
    for name, tensor in parameters.items():
        if name == WEIGHTS:
            continue
        number, _, own = name.removeprefix(_PREFIX).partition(".")
        if not name.startswith(_PREFIX) or not number.isdecimal() or int(number) >= len(members):
            raise InputError(f"learned tensor '{name}' belongs to no member of the ensemble")
        members[int(number)][own] = tensor
    return members


class EnsemblePredictor:
    """Finished models whose qualities are averaged by weight. The first one's `model` stands for all of them."""

    def __init__(self, members: Sequence[Predictor], weights_M: Tensor) -> None:
        self.members = tuple(members)
        self.weights_M = weights_M
        self.model = members[0].model

    def __call__(self, views_BHWC: Tensor) -> Tensor:
        """uint8 views (B, H, W, 3) -> (B,) quality in [0, 1], float32."""
        return self.mean(self.each(views_BHWC))

    def each(self, views_BHWC: Tensor) -> Tensor:
        """(M, B) qualities by member."""
        return torch.stack([member(views_BHWC) for member in self.members])

    def mean(self, quality_MB: Tensor) -> Tensor:
        """Weighted mean over members."""
        return (self.weights_M.to(quality_MB.device) @ quality_MB.double()).float()


def spread_of(quality_M: Tensor, weights_M: Tensor) -> float:
    """Weighted standard deviation of the members' qualities of one image, 0 where they agree."""
    quality_M, weights_M = quality_M.double().cpu(), weights_M.double().cpu()
    mean = weights_M @ quality_M
    return float((weights_M @ (quality_M - mean).square()).sqrt())

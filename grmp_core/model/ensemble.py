"""Several models as one: their learned tensors side by side, and a weight each.

In the dict of learned tensors member m's are named `ensemble.<m>.<name>`, and `ensemble.weights_M` has the weights, so
that a bundle holds an ensemble as it holds a model. All members have one backbone, and prompts and head of one kind.
With a gate (`continual.gate`), whose tensors lie beside them, every image has weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from grmp_core.continual import gate as gating
from grmp_core.continual.gate import Gate
from grmp_core.errors import InputError
from grmp_core.model.predictor import Predictor
from grmp_core.model.quality_model import Parameters

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


def with_member(before: Mapping[str, Tensor] | None, member: Mapping[str, Tensor], gate: Gate) -> Parameters:
    """The learned tensors of a gated ensemble, null for none yet, with one member more; `gate` knows it already."""
    members = [*([] if before is None else separated(before)), member]
    return {**joined(members, [1 / len(members)] * len(members)), **gate.to_parameters()}


def separated(parameters: Mapping[str, Tensor]) -> list[Parameters]:
    """The learned tensors of each member; of a single model its own. InputError for tensors of no member."""
    if WEIGHTS not in parameters:
        return [dict(parameters)]
    members: list[Parameters] = [{} for _ in parameters[WEIGHTS]]
    for name, tensor in parameters.items():
        if name == WEIGHTS or name.startswith(gating.PREFIX):
            continue
        number, _, own = name.removeprefix(_PREFIX).partition(".")
        if not name.startswith(_PREFIX) or not number.isdecimal() or int(number) >= len(members):
            raise InputError(f"learned tensor '{name}' belongs to no member of the ensemble")
        members[int(number)][own] = tensor
    return members


class EnsemblePredictor:
    """Finished models whose qualities are averaged by weight. The first one's `model` stands for all of them.

    gate: gives every image its weights, by token statistics of the first member (`Predictor.statistics`); null: all
    images have `weights_M`.
    """

    def __init__(self, members: Sequence[Predictor], weights_M: Tensor, gate: Gate | None = None) -> None:
        self.members = tuple(members)
        self.weights_M = weights_M
        self.gate = gate
        self.model = members[0].model

    def __call__(self, views_BHWC: Tensor) -> Tensor:
        """uint8 views (B, H, W, 3), each with weights of its own -> (B,) quality in [0, 1], float32."""
        quality_MB = self.each(views_BHWC)
        if self.gate is None:
            return weighted_mean(quality_MB, self.weights_M)
        weights_BM = self.gate.weights(self.members[0].statistics(views_BHWC))
        return (weights_BM.T.to(quality_MB.device) * quality_MB.double()).sum(dim=0).float()

    def image_weights(self, batches: Iterable[Tensor]) -> Tensor:
        """(M,) weights of one image, from all its views, float64."""
        if self.gate is None:
            return self.weights_M
        statistics_GF = torch.cat([self.members[0].statistics(views) for views in batches])
        return self.gate.weights(statistics_GF.mean(dim=0, keepdim=True))[0]

    def each(self, views_BHWC: Tensor) -> Tensor:
        """(M, B) qualities by member."""
        return torch.stack([member(views_BHWC) for member in self.members])


def weighted_mean(quality_MB: Tensor, weights_M: Tensor) -> Tensor:
    """Mean over members, float32; computed in float64."""
    return (weights_M.to(quality_MB.device) @ quality_MB.double()).float()


def spread_of(quality_M: Tensor, weights_M: Tensor) -> float:
    """Weighted standard deviation of the members' qualities of one image, 0 where they agree."""
    quality_M, weights_M = quality_M.double().cpu(), weights_M.double().cpu()
    mean = weights_M @ quality_M
    return float((weights_M @ (quality_M - mean).square()).sqrt())

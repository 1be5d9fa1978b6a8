"""A student: the image tower of a CLIP, all of which learns, and two fixed sentences that read it.

Nothing of the text tower is learned, and there are no visual prompts: at scoring a student costs its image tower.
Shapes: B views.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.model.adapting_parts import CALIBRATION
from grmp_core.model.backbone import Backbone
from grmp_core.model.bundle import Bundle
from grmp_core.model.ensemble import WEIGHTS
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.model.settings import PromptConfig

PROMPTS = PromptConfig(context_tokens=0, visual_tokens=0)
"""The class phrases as they are."""
_TOWER = "clip.visual."
_WEIGHT_DECAY = 0.01
_WARM_UP_STEPS = 50


def new_student(backbone: Backbone, precision: str) -> tuple[QualityModel, Parameters]:
    """The model, and float32 copies of the tensors that learn: the image tower's, and the calibration.

    InputError for a backbone without a text tower of open_clip.
    """
    own = backbone.clip.get_submodule("visual").named_parameters()
    learned = {f"{_TOWER}{name}": tensor.detach().clone() for name, tensor in own}
    return QualityModel(backbone, PROMPTS, precision=precision), {**learned, CALIBRATION: torch.tensor([1.0, 0.0])}


def tower_size(backbone: Backbone) -> int:
    """Numbers in the parameters of the image tower."""
    return sum(tensor.numel() for tensor in backbone.clip.get_submodule("visual").parameters())


def bundle_size(bundle: Bundle, backbone: Backbone) -> int:
    """Numbers that a bundle's scores are computed with: the image tower, in each member of an ensemble, and what is
    learned beside it."""
    members = len(bundle.parameters.get(WEIGHTS, [0]))
    beside = sum(tensor.numel() for name, tensor in bundle.parameters.items() if "clip." not in name)
    return members * tower_size(backbone) + beside


def check_smaller(student: int, teacher: int | None, names: tuple[str, str]) -> None:
    """InputError where the student (first of `names`) has more parameters than its teacher. A teacher of unknown size
    is not compared."""
    if teacher is not None and student > teacher:
        raise InputError(
            f"student {names[0]} has {student:,} parameters, its teacher {names[1]} only {teacher:,}; a student must "
            "not be larger: choose a smaller distil.student"
        )


def predicted_quality(model: QualityModel, learned: Mapping[str, Tensor], views_BHWC: Tensor) -> Tensor:
    """uint8 views (B, H, W, 3) -> (B,) quality in [0, 1], float32, with a gradient to `learned`."""
    return model.predict(learned, views_BHWC).quality_logits_BK.float().softmax(dim=-1)[:, 0]


class Learner:
    """AdamW on a student's tensors, with a rate that warms up and then falls to 0 as half a cosine.

    The rate is a function of the step, so that tensors and `state` are all that a run has to keep.
    """

    def __init__(self, learned: Parameters, lr: float, steps: int) -> None:
        self.learned = {name: tensor.requires_grad_() for name, tensor in learned.items()}
        self.lr, self.steps = lr, steps
        self.optimizer = torch.optim.AdamW(self.learned.values(), lr=lr, weight_decay=_WEIGHT_DECAY)

    def step(self, number: int, gradient: Tensor) -> None:
        """Step `number`, from 0, along a gradient as `flat_gradient` gives it. InputError where it is not finite."""
        if not bool(gradient.isfinite().all()):
            raise InputError(f"distil: the loss is not finite at step {number + 1}; lower distil.lr")
        warm = min(1.0, (number + 1) / _WARM_UP_STEPS)
        fallen = 0.5 + 0.5 * math.cos(math.pi * number / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warm * fallen
        parts = gradient.split([tensor.numel() for tensor in self.learned.values()])
        for tensor, part in zip(self.learned.values(), parts, strict=True):
            tensor.grad = part.view_as(tensor)
        self.optimizer.step()

    def flat_gradient(self, loss: Tensor) -> Tensor:
        """Of all tensors in one, in their order."""
        found = torch.autograd.grad(loss, list(self.learned.values()), allow_unused=True)
        pairs = zip(self.learned.values(), found, strict=True)
        return torch.cat([(torch.zeros_like(t) if g is None else g).flatten() for t, g in pairs])

    def tensors(self) -> Parameters:
        """Copies on the CPU, without a gradient."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.learned.items()}

"""Quality without a label by joint prompts of scene, distortion and grade, as LIQE asks (Zhang et al. 2023).

LIQE trains both towers with these sentences; here they are asked of the backbone as it is. grmp-nano was never taught
sentences of this form, and "spatial", "which" and the digits of "jpeg2000" have no embedding there (zeros): its result
says little about LIQE's way.

Shapes: V views of an image, E joint embedding, K = 5 grades x 9 scenes x 11 distortions, in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from grmp_core.model.backbone import Backbone
from grmp_core.model.scene_words import SCENES
from grmp_core.model.zero_shot import sentence_features

GRADES = ("bad", "poor", "fair", "good", "perfect")
"""Quality 0, 0.25, 0.5, 0.75, 1."""
DISTORTIONS = (
    "jpeg2000 compression",
    "jpeg compression",
    "noise",
    "blur",
    "color",
    "contrast",
    "overexposure",
    "underexposure",
    "spatial",
    "quantization",
    "other",
)
"""The eleven words of the published code; its scenes are `SCENES`."""


def joint_sentences() -> list[str]:
    """The K sentences."""
    return [
        f"a photo of a {scene} with {distortion} artifacts, which is of {grade} quality"
        for grade, scene, distortion in product(GRADES, SCENES, DISTORTIONS)
    ]


@dataclass(frozen=True)
class JointPrompts:
    """The sentences, encoded once."""

    text_KE: Tensor
    """Features of length one."""
    scale: float
    """Of the cosines in the softmax: the backbone's own."""

    @classmethod
    def of(cls, backbone: Backbone) -> JointPrompts:
        """InputError for a text tower of another library than open_clip."""
        scale = float(backbone.clip.get_parameter("logit_scale").detach().float().exp())
        return cls(sentence_features(backbone, joint_sentences()), scale)

    def quality(self, unit_VE: Tensor) -> float:
        """In [0, 1]: expected grade of an image under the softmax over all sentences, of logits averaged over views."""
        logits_K = self.scale * (unit_VE @ self.text_KE.T).mean(dim=0)
        by_grade = logits_K.double().softmax(dim=0).view(len(GRADES), -1).sum(dim=1)
        return float(by_grade @ torch.linspace(0, 1, len(GRADES), dtype=torch.float64))

"""A finished model: views in, quality out.

Shapes: B views, H = W image size, E joint embedding, F token statistics, K = 2 class phrases.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from grmp_core.model.quality_model import QualityModel, unit
from grmp_core.model.token_statistics import token_statistics


class Predictor:
    """A finished model: learned tensors put in for good, text features computed once.

    Takes the model over: its weights are overwritten by `parameters`.

    deep: for `look`, keep the image tower's own weights beside the adapted ones.
    """

    def __init__(self, model: QualityModel, parameters: Mapping[str, Tensor], *, deep: bool = False) -> None:
        self._deep = deep
        self._own_tower = copy.deepcopy(model.vision_tower) if deep else model.vision_tower
        model.put(parameters)
        with torch.no_grad():
            self.text_KE = unit(model.text_prompt())
        self.model = model

    @torch.inference_mode()
    def __call__(self, views_BHWC: Tensor) -> Tensor:
        """uint8 views (B, H, W, 3) -> (B,) quality in [0, 1], float32."""
        return self.model.view_quality(self.model.embed(views_BHWC), self.text_KE)

    @torch.inference_mode()
    def look(self, views_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 views (B, H, W, 3) -> (B,) quality, and (B, F) token statistics by the backbone before adaptation."""
        tokens_BND = self.model.embed(views_BHWC)
        statistics_BF = token_statistics(self._own_tower, tokens_BND, deep=self._deep)
        return self.model.view_quality(tokens_BND, self.text_KE), statistics_BF

    @torch.inference_mode()
    def statistics(self, views_BHWC: Tensor) -> Tensor:
        """uint8 views (B, H, W, 3) -> (B, F) token statistics by the backbone before adaptation."""
        return token_statistics(self._own_tower, self.model.embed(views_BHWC), deep=self._deep)

    @torch.inference_mode()
    def from_features(self, unit_BE: Tensor) -> Tensor:
        """Unit features (B, E) of views, of a model without a head -> (B,) quality in [0, 1], float32."""
        logits_BK = self.model.scale * unit_BE @ self.text_KE.T
        return self.model.calibrated(logits_BK).softmax(dim=-1)[:, 0]

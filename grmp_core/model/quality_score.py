"""Mean quality as a torchmetrics metric."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from grmp_core.model.differentiable import ImageQuality, load

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError("grmp_core.QualityScore needs torchmetrics: pip install 'grmp-iqa[metrics]'") from error


class QualityScore(Metric):
    """Mean quality of the images of all updates, in [0, 1], 1 best; no reference images are needed.

    Args:
        model: a module as `grmp_core.load` gives it, or what `load` takes.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    total: Tensor
    images: Tensor

    def __init__(self, model: ImageQuality | str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model if isinstance(model, ImageQuality) else load(model)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images_BCHW: Tensor) -> None:
        """Take in float images (B, 3, H, W) in [0, 1]. InputError as `ImageQuality` raises it."""
        self.total = self.total + self.model(images_BCHW).sum()
        self.images = self.images + len(images_BCHW)

    def compute(self) -> Tensor:
        """-> () mean quality; NaN where there was no image."""
        return self.total / self.images

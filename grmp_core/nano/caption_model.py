"""An open_clip model as it is trained from scratch: few rows of the token table, filters that see fine detail.

Shapes: B images, K captions, E joint embedding, N tokens of the image tower, C token numbers of a caption, D width,
U token numbers in use, F = 3·patch² values of a patch, V visual prompt tokens a block, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.features import normalize
from grmp_core.model.towers import open_text_tower, open_vision_tower


class CaptionModel(nn.Module):
    """An open_clip model whose token table holds only the rows of the tokens in use.

    Args:
        clip: taken over: its full token table is zeroed and filled again by `export_state`.
        used_tokens: token numbers that captions may hold; any other raises at `forward`.
    """

    clip: Any
    row_of_token: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, clip: Any, used_tokens: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.clip = clip
        self.vision = open_vision_tower(clip)
        self.text = open_text_tower(clip)
        tokens_U = used_tokens.unique()
        self.rows_UD = nn.Parameter(clip.token_embedding.weight.detach()[tokens_U].clone())
        clip.token_embedding.weight.requires_grad_(False).zero_()
        row_of_token = torch.full((len(clip.token_embedding.weight),), -1)
        row_of_token[tokens_U] = torch.arange(len(tokens_U))
        self.register_buffer("row_of_token", row_of_token, persistent=False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self,
        images_BHWC: Tensor,
        tokens_KC: Tensor,
        kept_N: Tensor | None = None,
        prompts_LVD: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """uint8 images and token numbers -> unit features (B, E) and (K, E), float32.

        `kept_N`: patches to look at; `prompts_LVD`: visual prompts, V tokens for each of L blocks.
        """
        return self.image_features(images_BHWC, kept_N, prompts_LVD), self.text_features(tokens_KC)

    def image_features(
        self, images_BHWC: Tensor, kept_N: Tensor | None = None, prompts_LVD: Tensor | None = None
    ) -> Tensor:
        dtype = self.rows_UD.dtype
        tokens_BND = self._embed(images_BHWC, kept_N, dtype)
        if prompts_LVD is not None:
            prompts_LVD = prompts_LVD.to(dtype)
        return F.normalize(self.vision.finish(self.vision.run(tokens_BND, prompts_LVD, 0)).float(), dim=-1)

    def _embed(self, images_BHWC: Tensor, kept_N: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The class token and the kept patches' tokens as open_clip's `_embeds` makes them, (B, 1 + kept, D).

        Patches are chosen as bytes, and the normalization is folded into the filters: x - 128 is exact in bfloat16,
        and nothing of the size of the images is ever held in floating point.
        """
        visual = self.clip.visual
        side = visual.conv1.kernel_size[0]
        centred = (images_BHWC ^ 128).view(torch.int8)  # x - 128 in two's complement
        patches_BNHWC = centred.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).flatten(1, 2)
        positions_ND = visual.positional_embedding[1:]
        if kept_N is not None:
            patches_BNHWC, positions_ND = patches_BNHWC[:, kept_N], positions_ND[kept_N]
        filters_DHWC = visual.conv1.weight.float().permute(0, 2, 3, 1)
        mean, std = self.mean.flatten(), self.std.flatten()
        bias_D = (filters_DHWC * ((128 / 255 - mean) / std)).sum(dim=(1, 2, 3))
        weight_DF = (filters_DHWC / (255 * std)).flatten(1)
        tokens_BND = F.linear(patches_BNHWC.flatten(2).to(dtype), weight_DF.to(dtype), bias_D.to(dtype)) + positions_ND
        first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images_BHWC), 1, -1)
        return visual.ln_pre(torch.cat([first, tokens_BND], dim=1))

    def text_features(self, tokens_KC: Tensor) -> Tensor:
        tokens_KC = tokens_KC[:, : self.text.used_length(tokens_KC)]
        rows_KC = self.row_of_token[tokens_KC]
        # Padding lies behind the end token, where a causal tower never looks, so any row will do for it.
        if bool((rows_KC[tokens_KC != 0] < 0).any()):
            raise InputError(
                "a caption holds a token that is not in the table of used tokens; build it from all captions"
            )
        embeddings_KCD = self.rows_UD[rows_KC.clamp(min=0)]
        return F.normalize(self.text.encode(embeddings_KCD, tokens_KC).float(), dim=-1)

    def export_state(self) -> dict[str, Tensor]:
        """The open_clip state dict in half precision; rows of tokens never used are zero."""
        state = {name: tensor.detach().clone() for name, tensor in self.clip.state_dict().items()}
        used = self.row_of_token >= 0
        state["token_embedding.weight"][used] = self.rows_UD.detach()[self.row_of_token[used]]
        return {n: t.half().contiguous() if t.is_floating_point() else t for n, t in state.items()}


def start_from_whitened_patches(model: CaptionModel, images_BHWC: Tensor, generator: torch.Generator) -> None:
    """Set the patch filters to whitened directions of the patches of `images`, and draw a weak position code.

    The spectrum of photos falls with frequency, so that random filters see little but brightness, while blur, noise and
    compression live in the weak high frequencies. A third of the filters are the leading principal components, the rest
    random mixtures of all others, every one with unit variance.
    """
    visual = model.clip.visual
    width, size_px = visual.conv1.out_channels, visual.conv1.kernel_size[0]
    normalized = normalize(images_BHWC, model.mean, model.std)
    patches = F.unfold(normalized, size_px, stride=size_px).permute(0, 2, 1).flatten(0, 1)
    covariance = torch.cov(patches.T.double())
    filters = whitening_filters(covariance, width, generator)
    with torch.no_grad():
        visual.conv1.weight.copy_(filters.view_as(visual.conv1.weight))
        shape = visual.positional_embedding.shape
        visual.positional_embedding.copy_(0.05 * torch.randn(shape, generator=generator))


def whitening_filters(covariance_FF: Tensor, count: int, generator: torch.Generator, floor: float = 1e-3) -> Tensor:
    """(count, F) filters: the leading count/3 principal axes, then mixtures of the rest; variance v / (v + floor)."""
    variances, axes = torch.linalg.eigh(covariance_FF.double())
    scaled_FF = (axes / (variances.clamp(min=0) + floor).sqrt()).T.flip(0)  # largest variance first
    num_axes = count // 3
    rest = scaled_FF[num_axes:]
    mixture = torch.randn(len(rest), count - num_axes, generator=generator, dtype=torch.float64)
    return torch.cat([scaled_FF[:num_axes], torch.linalg.qr(mixture).Q.T @ rest]).float()


def used_tokens(tokenize: Callable[[list[str]], Tensor], sentences: Iterable[str]) -> Tensor:
    """All token numbers of `sentences`, sorted, padding (0) left out."""
    tokens = tokenize(sorted(set(sentences))).unique()
    return tokens[tokens != 0]

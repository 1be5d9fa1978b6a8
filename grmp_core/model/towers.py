"""The two towers of an open_clip model, opened up: embed, then blocks, then finish.

open_clip runs a tower in one call. Prompts need to act between its blocks, few-shot adaptation needs to start in the
middle (the frozen part is cached), and training needs to skip what cannot change the result. The classes here hold
references to the model's own modules, never copies, so whatever swaps a parameter of the model is seen here too.

Shapes: B images, K sentences, N tokens, V prompt tokens, D width of a tower, E joint embedding.

Sources: VPT-deep (Jia et al. 2022) as used by GRMP-IQA, with one exact saving. The output of a prompt token is thrown
away before the next block, so a prompt token is needed as a key and a value only: no query, no output projection, no
MLP, and nothing of it depends on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import (
    QuickGELU,
    ResidualAttentionBlock,
    TextTransformer,
    VisionTransformer,
    text_global_pool,
)
from torch import Tensor, nn

from grmp_core.errors import InputError


class FusedQuickGELU(nn.Module):
    """x·sigmoid(1.702 x) written as silu(1.702 x)/1.702: the same function, one fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x * 1.702) * (1 / 1.702)


def fuse_activations(model: nn.Module) -> None:
    """Replace every QuickGELU of `model` by its fused form, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, QuickGELU):
                setattr(module, name, FusedQuickGELU())


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention over (B, heads, N, d) tensors.

    Written out on the CPU when a gradient is needed: there the fused kernel's backward is slower, and it cannot be
    differentiated twice, which second-order MAML needs.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores + mask
        return scores.softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def residual_block(
    block: ResidualAttentionBlock, tokens_BND: Tensor, prompts_VD: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """One transformer block whose tokens may also look at `prompts_VD`; returns the tokens only, (B, N, D)."""
    attention = block.attn
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias

    def split_heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, width // heads)).transpose(-3, -2)

    query, key, value = F.linear(block.ln_1(tokens_BND), weight, bias).chunk(3, dim=-1)
    if prompts_VD is not None:
        key_value_VD = F.linear(block.ln_1(prompts_VD), weight[width:], bias[width:])
        key_value_BVD = key_value_VD.expand(tokens_BND.shape[0], -1, -1)  # len() would fix the batch in an export
        prompt_key, prompt_value = key_value_BVD.chunk(2, dim=-1)
        key, value = torch.cat([key, prompt_key], dim=1), torch.cat([value, prompt_value], dim=1)
    mixed = attend(split_heads(query), split_heads(key), split_heads(value), mask)
    tokens_BND = tokens_BND + block.ls_1(attention.out_proj(mixed.transpose(-3, -2).flatten(-2)))
    return tokens_BND + block.ls_2(block.mlp(block.ln_2(tokens_BND)))


def run_block(block: nn.Module, tokens_BND: Tensor, prompts_VD: Tensor | None, num_prefix_tokens: int) -> Tensor:
    """`residual_block` where the block is open_clip's plain one, else the same by insertion, for any other block."""
    if isinstance(block, ResidualAttentionBlock):
        return residual_block(block, tokens_BND, prompts_VD)
    return run_block_by_insertion(block, tokens_BND, prompts_VD, num_prefix_tokens)


def run_block_by_insertion(
    block: nn.Module, tokens_BND: Tensor, prompts_VD: Tensor | None, num_prefix_tokens: int
) -> Tensor:
    """Insert the prompts behind the prefix tokens, run the block as it is, take the prompts out again."""
    if prompts_VD is None:
        return block(tokens_BND)
    prompts_BVD = prompts_VD.expand(tokens_BND.shape[0], -1, -1)
    parts = [tokens_BND[:, :num_prefix_tokens], prompts_BVD, tokens_BND[:, num_prefix_tokens:]]
    output = block(torch.cat(parts, dim=1))
    return torch.cat([output[:, :num_prefix_tokens], output[:, num_prefix_tokens + len(prompts_VD) :]], dim=1)


class VisionTower:
    """open_clip's own VisionTransformer."""

    num_prefix_tokens = 1

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.blocks: Sequence[nn.Module] = visual.transformer.resblocks
        self.width: int = visual.transformer.width
        self.final_modules: tuple[tuple[str, nn.Module], ...] = (("visual.ln_post", visual.ln_post),)
        self.block_prefix = "visual.transformer.resblocks"

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) normalized images -> (B, N, D) tokens before block 0."""
        return self.visual._embeds(images_BCHW)

    def run(self, tokens_BND: Tensor, prompts_LVD: Tensor | None, start: int, stop: int | None = None) -> Tensor:
        """Blocks start..stop (all that follow by default), block i looking at prompts_LVD[i]."""
        for index in range(start, len(self.blocks) if stop is None else stop):
            prompts_VD = None if prompts_LVD is None else prompts_LVD[index]
            tokens_BND = run_block(self.blocks[index], tokens_BND, prompts_VD, self.num_prefix_tokens)
        return tokens_BND

    def finish(self, tokens_BND: Tensor) -> Tensor:
        """(B, N, D) tokens after the last block -> (B, E) features, not normalized."""
        return self.project(self.pool(tokens_BND))

    def pool(self, tokens_BND: Tensor) -> Tensor:
        """(B, N, D) tokens after the last block -> (B, D), normalized and pooled: what a linear probe reads."""
        if self.visual.attn_pool is None and self.visual.pool_type == "tok":
            tokens_BND = tokens_BND[:, :1]  # the norm acts on each token alone, and only this one is read
        pooled, _ = self.visual._pool(tokens_BND)
        return pooled

    @property
    def pooled_width(self) -> int:
        """D of `pool`."""
        return self.width if self.visual.attn_pool is None else int(self.visual.ln_post.normalized_shape[0])

    @property
    def has_patch_tokens(self) -> bool:
        """Whether `patch_tokens` are of the kind that is pooled: not where a layer of its own attends over them."""
        return self.visual.attn_pool is None

    def patch_tokens(self, tokens_BND: Tensor) -> Tensor:
        """(B, N, D) tokens after the last block -> (B, P, D) those of the patches, normalized as before pooling."""
        patches_BPD = tokens_BND[:, self.num_prefix_tokens :]
        return patches_BPD if self.visual.final_ln_after_pool else self.visual.ln_post(patches_BPD)

    def after_pooling(self, pooled_BVD: Tensor) -> Tensor:
        """(B, V, D) pooled tokens -> the same, normalized where the tower normalizes after pooling."""
        return self.visual.ln_post(pooled_BVD) if self.visual.final_ln_after_pool else pooled_BVD

    def project(self, pooled_BD: Tensor) -> Tensor:
        """(B, D) -> (B, E), the joint embedding of images and texts."""
        return pooled_BD if self.visual.proj is None else pooled_BD @ self.visual.proj


class TimmVisionTower(VisionTower):
    """A timm VisionTransformer inside open_clip's TimmModel (SigLIP and others)."""

    def __init__(self, visual: TimmModel) -> None:
        trunk = visual.trunk
        self.visual = visual
        self.blocks = trunk.blocks
        self.width = trunk.embed_dim
        self.num_prefix_tokens = trunk.num_prefix_tokens
        self.final_modules = (("visual.trunk.norm", trunk.norm),)
        self.block_prefix = "visual.trunk.blocks"

    def embed(self, images_BCHW: Tensor) -> Tensor:
        trunk = self.visual.trunk
        return trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(images_BCHW))))

    def pool(self, tokens_BND: Tensor) -> Tensor:
        trunk = self.visual.trunk
        return trunk.forward_head(trunk.norm(tokens_BND))

    @property
    def pooled_width(self) -> int:
        return self.width

    @property
    def has_patch_tokens(self) -> bool:
        return getattr(self.visual.trunk, "attn_pool", None) is None

    def patch_tokens(self, tokens_BND: Tensor) -> Tensor:
        return self.visual.trunk.norm(tokens_BND)[:, self.num_prefix_tokens :]

    def after_pooling(self, pooled_BVD: Tensor) -> Tensor:
        return self.visual.trunk.fc_norm(pooled_BVD)

    def project(self, pooled_BD: Tensor) -> Tensor:
        return self.visual.head(pooled_BD)


class OpaqueVisionTower(VisionTower):
    """A tower without transformer blocks (ResNet, ConvNeXt): one piece, no place for visual prompts."""

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        self.blocks = []
        self.width = 0
        self.final_modules = ()
        self.block_prefix = "visual"

    def embed(self, images_BCHW: Tensor) -> Tensor:
        return self.visual(images_BCHW)

    def pool(self, tokens_BND: Tensor) -> Tensor:
        return tokens_BND

    @property
    def pooled_width(self) -> int:
        return int(getattr(self.visual, "output_dim", 0))

    @property
    def has_patch_tokens(self) -> bool:
        return False

    def project(self, pooled_BD: Tensor) -> Tensor:
        return pooled_BD


class TextTower:
    """The text side of an open_clip model, fed with token embeddings instead of token numbers."""

    def __init__(self, text: Any, prefix: str) -> None:
        self.text = text  # an open_clip CLIP or TextTransformer: both hold the same parts under the same names
        self.blocks: Sequence[nn.Module] = text.transformer.resblocks
        self.width: int = text.token_embedding.embedding_dim
        self.context_length = int(text.positional_embedding.shape[0]) - (getattr(text, "cls_emb", None) is not None)
        self.pool_type: str = text.text_pool_type if isinstance(text, open_clip.CLIP) else text.pool_type
        self.eos_id: int | None = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        self.final_modules = ((f"{prefix}ln_final", text.ln_final),)
        self.block_prefix = f"{prefix}transformer.resblocks"

    def used_length(self, token_ids_KN: Tensor) -> int:
        """Tokens that can matter. A causal tower read at its end token never sees what comes behind that token."""
        if self.text.attn_mask is None or self._has_class_token() or self.pool_type not in ("argmax", "eos"):
            return token_ids_KN.shape[1]
        ends = (token_ids_KN if self.pool_type == "argmax" else token_ids_KN.eq(self.eos_id or 0).int()).argmax(-1)
        return int(ends.max()) + 1

    def token_embeddings(self, token_ids_KN: Tensor) -> Tensor:
        return self.text.token_embedding(token_ids_KN)

    def encode(self, embeddings_KND: Tensor, token_ids_KN: Tensor) -> Tensor:
        """Token embeddings (K, N, D) of the sentences `token_ids_KN` -> (K, E) features, not normalized."""
        tokens, mask = self._add_positions(embeddings_KND, token_ids_KN)
        for block in self.blocks:
            if isinstance(block, ResidualAttentionBlock):
                tokens = residual_block(block, tokens, mask=self._mask_per_head(mask, block))
            else:
                tokens = block(tokens, attn_mask=mask)
        return self._finish(tokens, token_ids_KN)

    def _has_class_token(self) -> bool:
        return getattr(self.text, "cls_emb", None) is not None

    def _add_positions(self, embeddings_KND: Tensor, token_ids_KN: Tensor) -> tuple[Tensor, Tensor | None]:
        dtype = self.text.transformer.get_cast_dtype()
        tokens = embeddings_KND.to(dtype)
        if self._has_class_token():
            tokens = torch.cat([tokens, self.text.cls_emb.to(dtype).expand(len(tokens), 1, -1)], dim=1)
        length = tokens.shape[1]
        mask = self.text.attn_mask
        if mask is not None:
            mask = mask[:length, :length].to(dtype)
        if self._has_class_token() or getattr(self.text, "use_pad_mask", False):
            padding = self.text._build_additive_mask(token_ids_KN, length, dtype)
            mask = padding if mask is None else mask.unsqueeze(0) + padding
        return tokens + self.text.positional_embedding[:length].to(dtype), mask

    @staticmethod
    def _mask_per_head(mask: Tensor | None, block: ResidualAttentionBlock) -> Tensor | None:
        """open_clip stacks per-sentence masks as (K·heads, N, N); attention here wants (K, heads, N, N)."""
        if mask is None or mask.dim() == 2:
            return mask
        return mask.unflatten(0, (-1, block.attn.num_heads))

    def _finish(self, tokens: Tensor, token_ids_KN: Tensor) -> Tensor:
        if self._has_class_token():
            pooled = self.text.ln_final(text_global_pool(tokens, pool_type="last"))
        else:
            normed = self.text.ln_final(tokens)
            pooled = text_global_pool(normed, token_ids_KN, self.pool_type, eos_token_id=self.eos_id)
        projection = self.text.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def open_vision_tower(clip: Any) -> VisionTower:
    """The vision tower of an open_clip model; a tower without blocks is opaque and takes no visual prompts."""
    visual = clip.visual
    if isinstance(visual, VisionTransformer):
        return VisionTower(visual)
    if isinstance(visual, TimmModel):
        import timm

        if isinstance(visual.trunk, timm.models.VisionTransformer):
            return TimmVisionTower(visual)
    return OpaqueVisionTower(visual)


def open_text_tower(clip: Any) -> TextTower:
    """The text tower of an open_clip model. InputError for text encoders of other libraries (no token embeddings)."""
    if isinstance(clip, open_clip.CLIP):
        return TextTower(clip, "")
    if isinstance(getattr(clip, "text", None), TextTransformer):
        return TextTower(clip.text, "text.")
    raise InputError(
        f"text tower {type(getattr(clip, 'text', clip)).__name__} is not open_clip's own transformer: learned context "
        "needs its token embeddings; choose a model with an open_clip text tower, e.g. ViT-B-16-quickgelu"
    )

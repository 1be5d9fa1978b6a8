"""The image tower of an open_clip model, opened up: embed, then blocks, then finish.

open_clip runs a tower in one call. Prompts need to act between its blocks, few-shot adaptation needs to start in the
middle (the frozen part is cached), and training needs to skip what cannot change the result. The classes here hold
references to the model's own modules, never copies, so whatever swaps a parameter of the model is seen here too.

Shapes: B images, N tokens, V prompt tokens, P patches, L blocks, D width of the tower, E joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from grmp_core.model.blocks import run_block


class VisionTower:
    """open_clip's own VisionTransformer."""

    num_prefix_tokens = 1
    run_block: Callable[..., Tensor] = staticmethod(run_block)
    """`blocks.run_block`, or its compiled form."""

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
            tokens_BND = self.run_block(self.blocks[index], tokens_BND, prompts_VD, self.num_prefix_tokens)
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

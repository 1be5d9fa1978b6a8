"""The text tower of an open_clip model, opened up as the image tower is: see `vision_tower`.

Shapes: K sentences, N tokens, D width of the tower, E joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, text_global_pool
from torch import Tensor, nn

from grmp_core.errors import InputError
from grmp_core.model.blocks import residual_block


class TextTower:
    """The text side of an open_clip model, fed with token embeddings instead of token numbers."""

    residual_block: Callable[..., Tensor] = staticmethod(residual_block)
    """`blocks.residual_block`, or its compiled form."""

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
                tokens = self.residual_block(block, tokens, mask=self._mask_per_head(mask, block))
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

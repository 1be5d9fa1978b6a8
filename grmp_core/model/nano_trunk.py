"""grmp-nano as open_clip builds it: convolutions make tokens, transformer blocks compare them, a small text tower.

Importing this module registers the image trunk with timm, by whose name open_clip's configuration asks for it. The
blocks are open_clip's own, so that visual prompts, cached prefixes and block-wise adaptation work as in any CLIP.
"""

from __future__ import annotations

from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from timm.models import VisionTransformer, register_model
from torch import nn

from grmp_core.model.nano_stem import STRIDE_PX, LiteTokens

IMAGE_SIZE_PX = 224
WIDTH = 256
BLOCKS = 4
HEADS = 4
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 192,
    "quick_gelu": False,
    "vision_cfg": {
        "image_size": IMAGE_SIZE_PX,
        "timm_model_name": "grmp_nano_trunk",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 96, "heads": 3, "layers": 3},
}
"""Content of `assets/grmp-nano.json`."""


def _block(*, dim: int, num_heads: int, mlp_ratio: float, **_: object) -> nn.Module:
    return ResidualAttentionBlock(dim, num_heads, mlp_ratio)


@register_model
def grmp_nano_trunk(pretrained: bool = False, num_classes: int = 0, **_: object) -> VisionTransformer:
    """The image trunk with random weights: 7 x 7 tokens of width 256, four blocks, mean of the tokens."""
    trunk = VisionTransformer(
        img_size=IMAGE_SIZE_PX,
        patch_size=STRIDE_PX,
        embed_dim=WIDTH,
        depth=BLOCKS,
        num_heads=HEADS,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        embed_layer=LiteTokens,
        block_fn=_block,  # type: ignore[arg-type]  # a function that makes a block, where timm names a class
        num_classes=num_classes,
    )
    trunk.default_cfg = trunk.pretrained_cfg = {  # type: ignore[assignment]
        "architecture": "grmp_nano_trunk",
        "num_classes": 0,
    }
    return trunk

"""grmp-nano as open_clip builds it: convolutions make tokens, transformer blocks compare them, a small text tower.

Importing this module registers the image trunk with timm, by whose name open_clip's configuration asks for it. The
blocks are open_clip's own, so that visual prompts, cached prefixes and block-wise adaptation work as in any CLIP.

Smaller towers are cut out of it: the picture is shrunk first, and the last stages of the convolutions and the last
blocks are left out. They are what distillation starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from timm.models import VisionTransformer, register_model
from torch import Tensor, nn

from grmp_core.model.nano_stages import STRIDE_PX, StemCut
from grmp_core.model.nano_stem import LiteTokens
from grmp_core.model.settings import EMBEDDED

IMAGE_SIZE_PX = 224
WIDTH = 256
BLOCKS = 4
HEADS = 4


@dataclass(frozen=True, kw_only=True)
class TrunkSize:
    """How much of grmp-nano's image tower there is."""

    stem: StemCut = field(default_factory=StemCut)
    blocks: int = BLOCKS


SIZES = {
    EMBEDDED: TrunkSize(),
    f"{EMBEDDED}-s": TrunkSize(stem=StemCut(shrink=2, stages=5), blocks=2),
    f"{EMBEDDED}-xs": TrunkSize(stem=StemCut(shrink=2, stages=5), blocks=0),
    f"{EMBEDDED}-xxs": TrunkSize(stem=StemCut(shrink=4, stages=3), blocks=0),
}
"""By the name of the backbone."""


def model_config(name: str) -> dict[str, Any]:
    """Configuration of open_clip for a size; the content of `assets/<name>.json`."""
    return {
        "embed_dim": 192,
        "quick_gelu": False,
        "vision_cfg": {
            "image_size": IMAGE_SIZE_PX,
            "timm_model_name": f"{name.replace('-', '_')}_trunk",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 96, "heads": 3, "layers": 3},
    }


MODEL_CONFIG = model_config(EMBEDDED)
"""Content of `assets/grmp-nano.json`."""


def _block(*, dim: int, num_heads: int, mlp_ratio: float, **_: object) -> nn.Module:
    return ResidualAttentionBlock(dim, num_heads, mlp_ratio)


def _trunk(size: TrunkSize, pretrained: bool = False, num_classes: int = 0, **_: object) -> VisionTransformer:
    """The image trunk with random weights: 7 x 7 tokens of width 256, blocks, mean of the tokens."""
    trunk = VisionTransformer(
        img_size=IMAGE_SIZE_PX,
        patch_size=STRIDE_PX,
        embed_dim=WIDTH,
        depth=size.blocks,
        num_heads=HEADS,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        embed_layer=partial(LiteTokens, cut=size.stem),
        block_fn=_block,  # type: ignore[arg-type]  # a function that makes a block, where timm names a class
        num_classes=num_classes,
    )
    trunk.default_cfg = trunk.pretrained_cfg = {  # type: ignore[assignment]
        "architecture": "grmp_nano_trunk",
        "num_classes": 0,
    }
    return trunk


def _register(name: str, size: TrunkSize) -> None:
    def trunk(pretrained: bool = False, **settings: Any) -> VisionTransformer:
        return _trunk(size, pretrained, **settings)

    trunk.__name__ = model_config(name)["vision_cfg"]["timm_model_name"]
    register_model(trunk)


for _name, _size in SIZES.items():
    _register(_name, _size)


def cut_weights(name: str, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of grmp-nano that a smaller tower has, too, by the names of the state dict."""
    stem, blocks = "visual.trunk.patch_embed.", "visual.trunk.blocks."
    size, columns = SIZES[name], SIZES[name].stem.columns()
    kept = {}
    for key, tensor in whole.items():
        part, _, rest = key.removeprefix(stem).removeprefix(blocks).partition(".")
        if key.startswith(blocks) and int(part) >= size.blocks:
            continue
        if key.startswith(f"{stem}stages.") and int(rest.partition(".")[0]) >= size.stem.stages:
            continue
        kept[key] = tensor[..., columns] if key.removeprefix(stem) in ("center_F", "scale_F", "proj.weight") else tensor
    return kept

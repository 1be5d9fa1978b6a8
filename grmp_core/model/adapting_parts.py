"""Which tensors of a `QualityModel` few-shot adaptation moves, by the beginnings of their names."""

from __future__ import annotations

from torch import nn

from grmp_core.model.settings import TrainableConfig
from grmp_core.model.text_tower import TextTower
from grmp_core.model.vision_tower import VisionTower

CALIBRATION = "calibration_2"
"""Name of the learned (scale, offset) of the difference of the quality logits; (1, 0) where nothing learned it."""
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def adapting_prefixes(
    model: nn.Module, config: TrainableConfig, vision_tower: VisionTower, text_tower: TextTower
) -> tuple[str, ...]:
    """Of everything that `config` switches on, the whole weight matrices of low-rank updates among them."""
    prefixes = ["text_prompt."] if config.text_context else []
    prefixes += ["visual_prompt."] if config.visual_prompts else []
    prefixes += ["head."]  # where the model has one
    prefixes += [CALIBRATION] if config.calibration else []
    if config.norms_only:
        prefixes += _norm_prefixes(model, config, vision_tower)
    else:
        prefixes += block_prefixes(config, vision_tower, text_tower)
    for tower in (vision_tower, text_tower):
        prefixes += [f"clip.{name}." for name, _ in tower.final_modules] if config.final_norms else []
    return tuple(prefixes)


def block_prefixes(config: TrainableConfig, vision_tower: VisionTower, text_tower: TextTower) -> tuple[str, ...]:
    """Of the last blocks of both towers that `config` names."""
    return (*_last_blocks(vision_tower, config.vision_blocks), *_last_blocks(text_tower, config.text_blocks))


def first_adapting_block(config: TrainableConfig | None, vision_tower: VisionTower, *, coupled: bool) -> int:
    """Image blocks before this one give the same tokens for a view for the whole of an adaptation.

    Args:
        config: null where nothing adapts.
        coupled: visual prompts come from the text context, and move with it.
    """
    if config is None:
        return len(vision_tower.blocks)
    if config.visual_prompts or (coupled and config.text_context):
        return 0
    return max(0, len(vision_tower.blocks) - max(0, config.vision_blocks))


def _last_blocks(tower: VisionTower | TextTower, count: int) -> tuple[str, ...]:
    first = max(0, len(tower.blocks) - max(0, count))
    return tuple(f"clip.{tower.block_prefix}.{i}." for i in range(first, len(tower.blocks)))


def _norm_prefixes(model: nn.Module, config: TrainableConfig, vision_tower: VisionTower) -> tuple[str, ...]:
    """Of the norms in the image tower's last blocks."""
    blocks = _last_blocks(vision_tower, config.vision_blocks)
    norms = [name for name, module in model.named_modules() if isinstance(module, _NORMS)]
    return tuple(f"{name}." for name in norms if name.startswith(blocks))

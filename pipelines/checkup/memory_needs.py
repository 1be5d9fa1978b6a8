"""How much memory the processes of a run will need: arithmetic from shapes and settings, before anything is started.

Where an estimate is rough it is an upper one. Shapes: B images, N tokens, V prompt tokens, D width of a tower, H heads,
R width of a block's MLP over D. Everything is in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from grmp_core.model.backbone import without_weights
from grmp_core.model.prompts import num_visual_tokens
from grmp_core.model.scene_words import SCENES
from grmp_core.model.text_tower import open_text_tower
from grmp_core.model.vision_tower import open_vision_tower
from pipelines.configuration.schema import Config
from pipelines.pretraining.episode_sources import EPISODES_AHEAD, KEPT_BYTES

PROCESS_BYTES = 700_000_000
"""A worker has this for itself once everything is imported (measured: 590 MB), with a decoded photo."""
GPU_CONTEXT_BYTES = 600_000_000
"""Of CUDA itself, on the GPU, for every process."""
SCORED_AT_ONCE = 64
"""Views in a batch of `predict_quality`."""
SENTENCE_TOKENS = 16
"""Tokens of a class phrase or a scene with its context, at most."""
FLOAT32, FLOAT64 = 4, 8


@dataclass(frozen=True, kw_only=True)
class TowerShape:
    blocks: int
    width: int
    heads: int
    tokens: int
    """Of an image, or of a sentence; without prompts."""
    mlp: float
    """R."""
    block_values: int
    """Weights of a block."""
    opened: bool
    """Blocks are open_clip's plain ones: prompts act as keys and values only, and attention is written out on a CPU."""

    def kept_values(self, prompts: int, *, learned: bool, on_gpu: bool) -> float:
        """Values of an image's (or sentence's) activations that one block keeps for its backward pass.

        Both norms' inputs, query, key, value, the attention matrix or the output of fused attention, and the MLP's
        activation; where the block's own weights learn, the inputs of its four linear layers, too.
        """
        seen = self.tokens + prompts
        own = self.tokens if self.opened else seen
        attention = self.heads * own * seen if self.opened and not on_gpu else own * self.width
        kept = (3 + self.mlp) * own * self.width + 2 * seen * self.width + attention
        return kept + (3 + self.mlp) * own * self.width if learned else kept


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    values: int
    """All weights of the backbone."""
    vision: TowerShape
    """Without blocks where nothing can act or learn inside of it."""
    text: TowerShape
    image_px: int
    visual_tokens: int
    """V."""
    context_tokens: int

    @property
    def prompt_values(self) -> int:
        """Learned numbers of pre-training."""
        width, tokens = self.vision.width, self.visual_tokens
        visual = self.vision.blocks * tokens * width + width**2 + width if tokens else 0
        return visual + self.context_tokens * self.text.width


@dataclass(frozen=True, kw_only=True)
class Need:
    """Of one process."""

    main_bytes: float
    gpu_bytes: float
    """0 where it computes on CPUs."""


def model_shape(config: Config) -> ModelShape:
    """Of the configured backbone and prompts, without weights: the model is made on torch's `meta` device."""
    clip: Any = without_weights(config.backbone.name)
    size = clip.visual.image_size
    side = size if isinstance(size, int) else size[0]
    vision, text = open_vision_tower(clip), open_text_tower(clip)
    tokens = vision.embed(torch.empty(1, 3, side, side, device="meta")).shape[1] if vision.blocks else 0
    return ModelShape(
        values=sum(parameter.numel() for parameter in clip.parameters()),
        vision=_tower(vision.blocks, vision.width, tokens),
        text=_tower(text.blocks, text.width, SENTENCE_TOKENS),
        image_px=side,
        visual_tokens=num_visual_tokens(config.prompts, vision),
        context_tokens=config.prompts.context_tokens,
    )


def _tower(blocks: Sequence[Any], width: int, tokens: int) -> TowerShape:
    if not len(blocks):
        return TowerShape(blocks=0, width=width, heads=0, tokens=tokens, mlp=0, block_values=0, opened=False)
    first = blocks[0]
    inner = next(module.out_features for module in first.mlp.modules() if isinstance(module, nn.Linear))
    return TowerShape(
        blocks=len(blocks),
        width=width,
        heads=first.attn.num_heads,
        tokens=tokens,
        mlp=inner / width,
        block_values=sum(parameter.numel() for parameter in first.parameters()),
        opened=isinstance(first, ResidualAttentionBlock),
    )


def value_bytes(config: Config) -> int:
    """Of a frozen weight, and of an activation."""
    return 2 if config.precision == "bf16" else FLOAT32


def pretraining_activations(shape: ModelShape, config: Config) -> float:
    """Of one batch, all that the backward pass reads; with MAML roughly that of all batches of a task."""
    gpu = config.pretrain.gpus_per_worker > 0
    image = shape.vision.blocks * shape.vision.kept_values(shape.visual_tokens, learned=False, on_gpu=gpu)
    text = 2 * shape.text.blocks * shape.text.kept_values(0, learned=False, on_gpu=gpu)
    batches = {"bilevel": 1, "fomaml": config.meta.inner_steps, "maml": 4 * config.meta.inner_steps}
    return batches[config.meta.algorithm] * (config.meta.batch_size * image + text) * value_bytes(config)


def adaptation_activations(shape: ModelShape, config: Config) -> float:
    """Of one batch of few-shot adaptation, with the scenes' sentences where regularization compares them."""
    adapt, gpu = config.adapt, config.sweep.gpus_per_trial > 0
    moved = adapt.trainable
    own = min(moved.vision_blocks, shape.vision.blocks)
    ran = shape.vision.blocks if moved.visual_prompts else own
    image = own * shape.vision.kept_values(shape.visual_tokens, learned=True, on_gpu=gpu)
    image += (ran - own) * shape.vision.kept_values(shape.visual_tokens, learned=False, on_gpu=gpu)
    last = min(moved.text_blocks, shape.text.blocks)
    learned = last * shape.text.kept_values(0, learned=True, on_gpu=gpu)
    phrase = learned + (shape.text.blocks - last) * shape.text.kept_values(0, learned=False, on_gpu=gpu)
    text = 2 * phrase + (len(SCENES) * learned if adapt.qgr.strength > 0 else 0)
    return (adapt.batch_size * image + text) * value_bytes(config)


def adapting_values(shape: ModelShape, config: Config) -> int:
    """Numbers that few-shot adaptation moves, as if all tensors of the blocks that train did."""
    moved = config.adapt.trainable
    blocks = ((shape.vision, moved.vision_blocks), (shape.text, moved.text_blocks))
    return shape.prompt_values + sum(min(count, tower.blocks) * tower.block_values for tower, count in blocks)


def forward_bytes(shape: ModelShape, views: int, config: Config) -> float:
    """Of a pass without gradients: the tokens of all views, and what one block makes of them."""
    one = shape.vision.kept_values(shape.visual_tokens, learned=False, on_gpu=True) + 2 * 3 * shape.image_px**2
    return views * one * value_bytes(config)


def pretraining_worker(shape: ModelShape, config: Config) -> Need:
    """Model, tasks that are kept or read ahead, state with its gradients and Adam's moments, activations of a batch."""
    view = 3 * shape.image_px**2
    episode = 2 * config.meta.inner_steps * config.meta.batch_size * view
    kept = (KEPT_BYTES if config.pretrain.episodes == "store" else 0) + EPISODES_AHEAD * episode
    state = shape.prompt_values * (8 * FLOAT32 + 3 * FLOAT64)
    active = shape.values * value_bytes(config) + state + pretraining_activations(shape, config)
    return _need(shape, active, kept, config.pretrain.gpus_per_worker)


def few_shot_trial(shape: ModelShape, config: Config, shots: int, tests: int) -> Need:
    """Model, float32 copies and gradients of what adapts, activations of a batch or a batch of test views.

    The encoded target is mapped from disk by processes on CPUs, and costs them a batch; to a GPU the labelled and the
    test images are copied whole.
    """
    state = adapting_values(shape, config) * (8 * FLOAT32 + value_bytes(config))
    active: float = shape.values * value_bytes(config) + state
    active += max(adaptation_activations(shape, config), forward_bytes(shape, SCORED_AT_ONCE, config))
    if config.sweep.gpus_per_trial > 0:
        score = config.views.score_grid**2
        active += encoded_bytes(shape, config, shots, config.views.train_views + score)
        active += encoded_bytes(shape, config, tests, score)
    return _need(shape, active, 0, config.sweep.gpus_per_trial)


def scoring_worker(shape: ModelShape, config: Config) -> Need:
    """Model, and one batch of views."""
    active = shape.values * value_bytes(config) + forward_bytes(shape, config.score.batch_size, config)
    return _need(shape, active, 0, config.score.gpus_per_worker)


def encoded_bytes(shape: ModelShape, config: Config, images: int, views: int | None = None) -> int:
    """Of an encoded target on disk: every view's tokens in front of the first adapting block. With fp32 half of it
    where float16 is good enough.

    views: of an image; null: all of them.
    """
    count = config.views.train_views + config.views.score_grid**2 if views is None else views
    return images * count * shape.vision.tokens * shape.vision.width * value_bytes(config)


def _need(shape: ModelShape, active: float, kept: float, gpus: float) -> Need:
    """While it loads, a worker has the weights in float32 twice: as the file has them, and in the model."""
    loading = 2 * shape.values * FLOAT32
    if gpus > 0:
        return Need(main_bytes=PROCESS_BYTES + max(loading, kept), gpu_bytes=GPU_CONTEXT_BYTES + active)
    return Need(main_bytes=PROCESS_BYTES + max(loading, active + kept), gpu_bytes=0)

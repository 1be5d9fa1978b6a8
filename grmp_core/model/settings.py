"""Configuration sections of the model: backbone, prompts, and what of them adaptation moves.

They are apart from the code that they configure, so that reading a configuration imports no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from grmp_core.errors import InputError
from grmp_core.settings import PathText, Settings

EMBEDDED = "grmp-nano"
HeadKind = Literal["plain", "attention_panel", "denoise"]


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(Settings):
    """The frozen CLIP."""

    name: Annotated[str, MinLen(1)] = EMBEDDED
    """`grmp-nano` (embedded, no download) or any open_clip model name, e.g. `ViT-B-16-quickgelu`."""
    pretrained: str | None = None
    """open_clip's tag for the weights, e.g. `openai`; downloaded once into open_clip's cache."""
    checkpoint: PathText | None = None
    """A local weights file instead of a tag: .safetensors, .pt read with weights_only, or a TorchScript archive as
    OpenAI's `ViT-B-16.pt`, of which only the tensors are read."""
    normalization: Literal["own", "imagenet"] = "own"
    """Mean and standard deviation of pixels: those that the weights were trained with, or ImageNet's, which the
    published code uses; models that were published need them."""

    def at_home(self) -> BackboneConfig:
        """The same with the absolute path of its weights file, as somebody in another folder needs it."""
        return replace(self, checkpoint=self.checkpoint and os.path.abspath(self.checkpoint))


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Settings):
    """Learned prompts of the text and the image tower."""

    context_tokens: Annotated[int, Ge(0)] = 4
    """M, learned vectors before the class phrase. 4 in the published code."""
    context_init: str | None = None
    """Words whose token embeddings the context starts from, exactly M tokens of them; null: normal."""
    context_std: Annotated[float, Ge(0)] = 0.02
    """Standard deviation that the context starts with. Published: 0.02. A small text tower takes random words for
    words, and its score without a label suffers; 0 leaves it nearly as it is."""
    phrases: tuple[str, str] = ("high quality.", "low quality.")
    """The class phrases; the first one is the good end of the scale."""
    visual_tokens: Annotated[int, Ge(-1)] = -1
    """V, learned tokens per block of the image tower. -1: 100 scaled by width / 768, 0: none."""
    coupled: bool = False
    """Visual prompts get a share of the text context, by a linear map per block that is learned with them and begins at
    zero (after MaPLe). Adapting the text context then moves the image tower from its first block on, and costs as much
    as `adapt.trainable.visual_prompts`."""
    prompt_norm: bool = False
    """One norm more in front of the image tower's last one, learned with the visual prompts. Published: true. Models
    that were published need it; nothing else does. The teacher never has it."""


@dataclass(frozen=True, kw_only=True)
class TrainableConfig(Settings):
    """Parameters that few-shot adaptation moves. The defaults are the published code's."""

    text_context: bool = True
    """The learned vectors before the class phrase."""
    visual_prompts: bool = False
    """The learned tokens of the image tower."""
    vision_blocks: Annotated[int, Ge(0)] = 4
    """Last blocks of the image tower that train; more than there are means all."""
    text_blocks: Annotated[int, Ge(0)] = 4
    """Last blocks of the text tower that train; more than there are means all."""
    lora_rank: Annotated[int, Ge(0)] = 0
    """0: all tensors of these blocks train (published). More: only an update of this rank of each of their weight
    matrices (LoRA)."""
    norms_only: bool = False
    """true: of the image tower's blocks that train only the norms do, and of the text tower's blocks nothing. Few
    tensors then differ between two adapted models. Not in the published code."""
    final_norms: bool = True
    """The norm behind the last block of each tower."""
    calibration: bool = False
    """Scale and offset of the score's logit: set to fit the labels before the first step, and learned from there on.
    The backbone's score then has the target's mean and spread at once, and the steps are about what is left. Not in
    the published code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norms_only and self.lora_rank:
            raise InputError("adapt.trainable.norms_only moves no weight matrix: set adapt.trainable.lora_rank to 0")


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Settings):
    """The pooling of the image tower's tokens (`adapt.head`)."""

    kind: HeadKind = "plain"
    queries: Annotated[int, Ge(1)] = 6
    """Of an attention panel."""
    steps: Annotated[int, Ge(0)] = 3
    """Noise levels of a denoiser."""

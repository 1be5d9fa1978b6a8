"""Skills of a backbone before anything is adapted: its quality score without a label, by an antonym pair.

Shapes: N images, V views of an image, E joint embedding, K sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.model.backbone import Backbone
from grmp_core.model.features import image_features
from grmp_core.model.prompts import PromptConfig
from grmp_core.model.text_tower import open_text_tower

_SENTENCES_AT_ONCE = 64


@torch.inference_mode()
def sentence_features(backbone: Backbone, sentences: Sequence[str]) -> Tensor:
    """(K, E) features of sentences, of length one, float32."""
    tower = open_text_tower(backbone.clip)
    parts = backbone.tokenize(list(sentences)).split(_SENTENCES_AT_ONCE)
    encoded = [tower.encode(tower.token_embeddings(tokens_KC), tokens_KC) for tokens_KC in parts]
    return F.normalize(torch.cat(encoded).float(), dim=-1)


@torch.inference_mode()
def caption_logits(backbone: Backbone, unit_NE: Tensor, sentences: Sequence[str]) -> np.ndarray:
    """(N, K) scaled cosines of image features with sentences."""
    clip: Any = backbone.clip
    return (clip.logit_scale.float().exp() * unit_NE @ sentence_features(backbone, sentences).T).numpy()


def zero_shot_quality(backbone: Backbone, unit_NE: Tensor, pair: tuple[str, str] = PromptConfig.phrases) -> np.ndarray:
    """(N,) quality in [0,1]: softmax over an antonym pair (good, bad); CLIP-IQA (Wang et al. 2023) has it with one."""
    logits = caption_logits(backbone, unit_NE, pair)
    return 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))


def no_label_quality(backbone: Backbone, views_VHW3: np.ndarray) -> float:
    """Mean quality in [0,1] over the uint8 views of one image, by the class phrases without any learned word."""
    unit_VE = image_features(backbone, [views_VHW3]).unit_NE
    return float(zero_shot_quality(backbone, unit_VE).mean())

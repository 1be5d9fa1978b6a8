"""Skills of a backbone before anything is adapted: zero-shot quality and type recognition.

Shapes: B crops, N images, D width of the image tower, E joint embedding, K sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core.model.backbone import Backbone
from grmp_core.model.towers import open_text_tower
from grmp_core.nano import captions


@torch.inference_mode()
def caption_logits(backbone: Backbone, unit_NE: Tensor, sentences: list[str]) -> np.ndarray:
    """(N, K) scaled cosines of image features with sentences."""
    tower = open_text_tower(backbone.clip)
    tokens_KC = backbone.tokenize(sentences)
    text_KE = F.normalize(tower.encode(tower.token_embeddings(tokens_KC), tokens_KC).float(), dim=-1)
    clip: Any = backbone.clip
    return (clip.logit_scale.float().exp() * unit_NE @ text_KE.T).numpy()


def zero_shot_quality(
    backbone: Backbone, unit_NE: Tensor, pair: tuple[str, str] = captions.CANONICAL_PAIR
) -> np.ndarray:
    """(N,) quality in [0,1]: softmax over an antonym pair (good, bad)."""
    logits = caption_logits(backbone, unit_NE, list(pair))
    return 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))


def recognize_type(backbone: Backbone, unit_NE: Tensor, names: Sequence[str]) -> np.ndarray:
    """(N,) index into `names` of the best matching type caption; there is no caption of an undistorted photo."""
    return caption_logits(backbone, unit_NE, captions.distortion_captions(names)[:-1]).argmax(axis=1)

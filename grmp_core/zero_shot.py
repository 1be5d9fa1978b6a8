"""What a backbone can do before anything is adapted: zero-shot quality, type recognition, and a linear probe.

Shapes: B crops, N images, D width of the image tower, E joint embedding, K sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grmp_core import captions
from grmp_core.backbone import Backbone
from grmp_core.caption_model import normalize
from grmp_core.metrics import srcc
from grmp_core.protocol import draw_shots, split
from grmp_core.towers import open_text_tower, open_vision_tower

_RIDGE_STRENGTHS = np.logspace(-2, 5, 29)


@dataclass(frozen=True)
class ImageFeatures:
    """What the image tower gives for N crops."""

    pooled_ND: np.ndarray
    """What the tower pools its tokens to (their mean, or the class token), before the projection."""
    unit_NE: Tensor
    """Projected and scaled to length one."""
    batch_sizes: tuple[int, ...]
    """Crops of every batch that came in; they add up to N."""

    def batch_means(self, values: np.ndarray) -> np.ndarray:
        """Mean of (N, ...) values over every batch, such as the views of a picture; -> (batches, ...)."""
        ends = np.cumsum(self.batch_sizes)[:-1]
        return np.stack([part.mean(axis=0) for part in np.split(values, ends)])


@torch.inference_mode()
def image_features(backbone: Backbone, batches: Iterable[np.ndarray]) -> ImageFeatures:
    """Features of uint8 crops, given as batches (B, size, size, 3), in the type of the backbone's weights."""
    tower = open_vision_tower(backbone.clip)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    dtype = next(backbone.clip.parameters()).dtype
    pooled = []
    for crops in batches:
        tokens_BND = tower.run(tower.embed(normalize(torch.from_numpy(crops), mean, std).to(dtype)), None, 0)
        pooled.append(tower.pool(tokens_BND))
    pooled_ND = torch.cat(pooled)
    unit_NE = F.normalize(tower.project(pooled_ND).float(), dim=-1)
    return ImageFeatures(pooled_ND.float().numpy(), unit_NE, tuple(map(len, pooled)))


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


def probe_srcc(
    features_ND: np.ndarray, quality_N: np.ndarray, reference_ids: Sequence[str], shots: int, num_splits: int = 10
) -> np.ndarray:
    """(num_splits,) test SRCC of ridge regression on `shots` labelled images, one value a split."""
    values = []
    for seed in range(num_splits):
        parts = split(reference_ids, seed)
        labelled = draw_shots(parts, shots, seed)
        predicted = ridge(features_ND[labelled], quality_N[labelled], features_ND[parts.test])
        values.append(srcc(predicted, quality_N[parts.test]))
    return np.array(values)


def ridge(train_ND: np.ndarray, target_N: np.ndarray, test_MD: np.ndarray) -> np.ndarray:
    """Ridge regression on standardized features, its strength chosen by leave-one-out on the training rows.

    The leave-one-out residual is in closed form: residual_i / (1 − hat_ii) (Allen's PRESS statistic).
    """
    mean, std = train_ND.mean(axis=0), train_ND.std(axis=0) + 1e-6
    x, offset = (train_ND - mean) / std, target_N.mean()
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    projected = left.T @ (target_N - offset)

    def left_out_error(strength: float) -> float:
        shrink = singular**2 / (singular**2 + strength)
        hat = (left**2 * shrink).sum(axis=1) + 1 / len(x)
        return float(np.mean(((target_N - offset - left @ (shrink * projected)) / (1 - hat).clip(1e-3)) ** 2))

    strength = min(_RIDGE_STRENGTHS, key=left_out_error)
    weights = right.T @ (singular / (singular**2 + strength) * projected)
    return (test_MD - mean) / std @ weights + offset

"""Skills of the embedded backbone, on drawings that its training never saw (its own are of other seeds)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grmp_core.evaluation.metrics import srcc
from grmp_core.labels.human_means import quality_of
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.features import image_features, normalize
from grmp_core.model.prompts import VisualPrompt, num_visual_tokens
from grmp_core.model.settings import BackboneConfig, PromptConfig
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.model.zero_shot import zero_shot_quality
from grmp_core.nano.captions import FIDELITY_PAIRS
from grmp_core.nano.crops import apply_parts
from grmp_core.procedural.scenes import reference

NAMES = ("lens_blur", "white_noise", "jpeg", "darken", "pixelate")


@pytest.fixture(scope="module")
def embedded() -> Backbone:
    return load_backbone(BackboneConfig())


@pytest.fixture(scope="module")
def damaged() -> tuple[np.ndarray, list[float]]:
    """(N, 224, 224, 3) pictures and their calibrated labels."""
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    for seed in range(2_000_000, 2_000_004):
        for name in NAMES:
            for level in (1.0, 3.0, 5.0):
                pictures.append(apply_parts(reference(seed, 224, 224), [(name, level)], rng))
                labels.append(quality_of(name, level))
    return np.stack(pictures), labels


def test_damage_is_ranked_without_a_label(embedded, damaged):
    pictures, labels = damaged
    unit_NE = image_features(embedded, [pictures]).unit_NE
    assert srcc(zero_shot_quality(embedded, unit_NE), labels) > 0.5
    assert srcc(zero_shot_quality(embedded, unit_NE, FIDELITY_PAIRS[0]), labels) > 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_random_visual_prompts_leave_most_of_it(embedded, damaged, seed):
    pictures, labels = damaged
    tower = open_vision_tower(embedded.clip)
    generator = torch.Generator().manual_seed(seed)
    prompt = VisualPrompt(num_visual_tokens(PromptConfig(), tower), tower, 16, generator)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (embedded.mean, embedded.std))
    with torch.inference_mode():
        tokens_BND = tower.embed(normalize(torch.from_numpy(pictures), mean, std))
        unit_NE = F.normalize(tower.finish(tower.run(tokens_BND, prompt(torch.empty(0)), 0)), dim=-1)
    assert srcc(zero_shot_quality(embedded, unit_NE), labels) > 0.5

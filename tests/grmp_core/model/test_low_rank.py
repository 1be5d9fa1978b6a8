"""Low-rank updates against the whole weights that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grmp_core.learning.few_shot import AdaptationBatch, adapt, adaptation_step
from grmp_core.learning.labelled_views import LabelledViews, prepare_views
from grmp_core.learning.settings import AdaptConfig, QgrConfig
from grmp_core.model.low_rank import DOWN, UP, initial_pairs, merged
from grmp_core.model.predictor import Predictor
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import PromptConfig, TrainableConfig

WHOLE = TrainableConfig(vision_blocks=2, text_blocks=1)
LOW_RANK = TrainableConfig(vision_blocks=2, text_blocks=1, lora_rank=3)
PROMPTS = PromptConfig(visual_tokens=5)


def images(count: int, views: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, views, 32, 32, 3), dtype=np.uint8)


def views_of(model: QualityModel) -> LabelledViews:
    quality, ids = np.linspace(0.1, 0.9, 8), [f"ref{i}" for i in range(8)]
    return prepare_views(model, model.prompt_parameters(), images(8, 1), images(8, 2), quality, ids)


def test_a_pair_by_hand():
    weight, up, down = torch.eye(2), torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]])
    other = torch.ones(1)
    result = merged({"w" + UP: up, "w" + DOWN: down, "other": other}, {"w": weight, "unmoved": weight})
    assert result.keys() == {"w", "other"}
    assert result["w"].tolist() == [[4.0, 4.0], [6.0, 9.0]]
    assert result["other"] is other


def test_pairs_have_the_rank_and_begin_with_no_update():
    weights = {"w": torch.randn(6, 16), "v": torch.randn(2, 4)}
    pairs = initial_pairs(weights, 3, torch.Generator().manual_seed(0))
    assert {n: tuple(t.shape) for n, t in pairs.items()} == {
        "w.down": (3, 16),
        "w.up": (6, 3),
        "v.down": (3, 4),
        "v.up": (2, 3),
    }
    assert 0.15 < pairs["w.down"].abs().max() <= 0.25  # uniform within 16^-1/2
    assert all(torch.equal(merged(pairs, weights)[n], w) for n, w in weights.items())


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-timm"])
def test_only_pairs_of_the_matrices_of_the_blocks_adapt(name, make_backbone):
    whole, low = (QualityModel(make_backbone(name), PROMPTS, trainable=t) for t in (WHOLE, LOW_RANK))
    before, names = whole.adaptable_parameters({}), set(low.adaptable_parameters({}))
    in_blocks = {n for n in before if "blocks." in n}
    matrices = {n for n in in_blocks if before[n].dim() == 2}
    assert names == (before.keys() - in_blocks) | {n + end for n in matrices for end in (DOWN, UP)}
    assert {"visual" in n for n in matrices} == {True, False}, "both towers have some"
    assert low.first_adapting_block == whole.first_adapting_block


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_start_predicts_what_the_whole_weights_do(make_backbone, precision):
    whole, low = (QualityModel(make_backbone(), PROMPTS, precision=precision, trainable=t) for t in (WHOLE, LOW_RANK))
    tokens = views_of(whole).train_tokens_NVTD[:, 0]
    expected, ours = (
        model.predict(model.adaptable_parameters({}), tokens, start_block=model.first_adapting_block, scenes=True)
        for model in (whole, low)
    )
    assert torch.equal(ours.quality_logits_BK, expected.quality_logits_BK)
    assert torch.equal(ours.scene_logits_BS, expected.scene_logits_BS)


def test_a_first_step_is_the_whole_gradient_through_the_pair(make_backbone):
    """W + U D: the gradient of U is G Dᵀ, and that of D is Uᵀ G, zero at the start; G is that of W."""
    whole, low = (QualityModel(make_backbone(), PROMPTS, trainable=t) for t in (WHOLE, LOW_RANK))
    config = AdaptConfig(lr=1.0, weight_decay=0.0, qgr=QgrConfig(strength=0.0))
    views = views_of(whole)
    batch = AdaptationBatch.gather(views, torch.arange(8), torch.zeros(8, dtype=torch.long))
    start, pairs = whole.adaptable_parameters({}), low.adaptable_parameters({})
    stepped, _ = adaptation_step(whole, start, batch, config)
    moved, _ = adaptation_step(low, pairs, batch, config)
    for name in [n.removesuffix(UP) for n in pairs if n.endswith(UP)]:
        gradient = start[name] - stepped[name]
        torch.testing.assert_close(moved[name + UP], -gradient @ pairs[name + DOWN].T, atol=1e-6, rtol=1e-4)
        assert torch.equal(moved[name + DOWN], pairs[name + DOWN])
    torch.testing.assert_close(moved["text_prompt.context_MD"], stepped["text_prompt.context_MD"])


def test_a_result_is_an_ordinary_model_whose_update_has_the_rank(make_backbone):
    low = QualityModel(make_backbone(), PROMPTS, trainable=LOW_RANK)
    config = AdaptConfig(epochs=2, folds=2, lr=0.3, batch_size=4, qgr=QgrConfig(strength=1.0))
    result = adapt(low, low.adaptable_parameters({}), views_of(low), config, seed=0)
    whole = QualityModel(make_backbone(), PROMPTS, trainable=WHOLE)
    before = whole.adaptable_parameters({})
    matrices = [n for n in result.parameters if "blocks." in n]
    assert len(matrices) == 4 * 3
    ranks = [int(torch.linalg.matrix_rank(result.parameters[n] - before[n], atol=1e-6)) for n in matrices]
    assert set(ranks) == {LOW_RANK.lora_rank}
    pixels = torch.from_numpy(images(8, 1)[:, 0])
    expected = low.predict(result.parameters, pixels).quality_logits_BK.softmax(-1)[:, 0]
    plain = QualityModel(make_backbone(), PROMPTS)
    torch.testing.assert_close(Predictor(plain, result.parameters)(pixels), expected)

"""Visual prompts that get a share of the text context."""

from __future__ import annotations

import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.model.predictor import Predictor
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import PromptConfig, TrainableConfig

COUPLED = PromptConfig(visual_tokens=5, coupled=True)
MAP, CONTEXT = "visual_prompt.coupling_LDC", "text_prompt.context_MD"
RANDOM_MAP = torch.randn(3, 48, 40, generator=torch.Generator().manual_seed(1))
CONTEXT_ONLY = TrainableConfig(vision_blocks=0, text_blocks=0, final_norms=False)


def views() -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def logits(model: QualityModel, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    return model.predict(parameters, views(), scenes=True).quality_logits_BK


def test_a_zero_map_is_the_uncoupled_model_bit_for_bit(make_backbone):
    plain = QualityModel(make_backbone(), PromptConfig(visual_tokens=5))
    coupled = QualityModel(make_backbone(), COUPLED)
    start = coupled.prompt_parameters()
    assert start.keys() - plain.prompt_parameters().keys() == {MAP}
    assert all(torch.equal(start[name], tensor) for name, tensor in plain.prompt_parameters().items())
    assert torch.equal(logits(coupled, start), logits(plain, plain.prompt_parameters()))


@pytest.mark.parametrize("context_tokens", [4, 7])
def test_a_map_adds_its_share_of_the_context_to_each_token(make_backbone, context_tokens):
    """Against an uncoupled model with these shares in its tokens; context vector v mod M belongs to token v."""
    prompts = PromptConfig(visual_tokens=5, context_tokens=context_tokens)
    plain = QualityModel(make_backbone(), prompts)
    coupled = QualityModel(make_backbone(), PromptConfig(visual_tokens=5, context_tokens=context_tokens, coupled=True))
    start = plain.prompt_parameters()
    start["visual_prompt.weight_DD"] = torch.eye(48)
    moved = start["visual_prompt.tokens_LVD"].clone()
    for layer in range(3):
        for token in range(5):
            moved[layer, token] += RANDOM_MAP[layer] @ start[CONTEXT][token % context_tokens]
    found = logits(coupled, {**start, MAP: RANDOM_MAP})
    torch.testing.assert_close(found, logits(plain, {**start, "visual_prompt.tokens_LVD": moved}), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, logits(plain, start), atol=1e-2)


def test_the_map_is_learned_and_carries_the_images_gradient_to_the_context(make_backbone):
    model = QualityModel(make_backbone(), COUPLED)
    leaves = {n: t.requires_grad_() for n, t in model.prompt_parameters().items()}
    (gradient,) = torch.autograd.grad(logits(model, leaves).sum(), [leaves[MAP]])
    assert (gradient.abs().sum(dim=(1, 2)) > 0).all()
    leaves[MAP] = torch.ones_like(leaves[MAP])
    features = model.predict(leaves, views(), scenes=True).scene_logits_BS  # no text prompt in these
    assert torch.autograd.grad(features.sum(), [leaves[CONTEXT]])[0].abs().sum() > 0


def test_an_adapting_context_reaches_the_first_block_and_a_finished_model_is_the_same(make_backbone):
    model = QualityModel(make_backbone(), COUPLED, trainable=CONTEXT_ONLY)
    frozen = {**model.prompt_parameters(), MAP: RANDOM_MAP}
    model.put(frozen)
    assert model.first_adapting_block == 0
    plain = QualityModel(make_backbone(), PromptConfig(visual_tokens=5), trainable=CONTEXT_ONLY)
    assert plain.first_adapting_block == 3
    adapting = {name: tensor.flip(1) + 0.1 for name, tensor in model.adaptable_parameters(frozen).items()}
    assert adapting.keys() == {CONTEXT}
    expected = logits(model, adapting).softmax(-1)[:, 0]
    assert not torch.allclose(expected, logits(model, {}).softmax(-1)[:, 0], atol=1e-3)
    finished = Predictor(QualityModel(make_backbone(), COUPLED), {**frozen, **adapting})
    torch.testing.assert_close(finished(views()), expected)


def test_cached_tokens_see_the_frozen_context(make_backbone):
    trainable = TrainableConfig(text_context=False, vision_blocks=1, text_blocks=0)
    model = QualityModel(make_backbone(), COUPLED, trainable=trainable)
    frozen = {**model.prompt_parameters(), MAP: RANDOM_MAP}
    model.put(frozen)
    assert model.first_adapting_block == 2
    cached = model.predict({}, model.prefix_tokens(frozen, views(), 2), start_block=2).quality_logits_BK
    torch.testing.assert_close(cached, logits(model, {}))


@pytest.mark.parametrize(
    ("prompts", "missing"),
    [
        (PromptConfig(coupled=True, visual_tokens=0), "visual prompts"),
        (PromptConfig(coupled=True, context_tokens=0), "text context"),
    ],
)
def test_a_coupling_without_either_end_is_refused(make_backbone, prompts, missing):
    with pytest.raises(InputError, match=rf"prompts\.coupled needs {missing}"):
        QualityModel(make_backbone(), prompts)

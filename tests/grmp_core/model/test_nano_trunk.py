"""grmp-nano in open_clip: its tower has blocks, and prompts, prefixes and second derivatives work through it."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import torch

from grmp_core.model.backbone import Backbone
from grmp_core.model.blocks import run_block, run_block_by_insertion
from grmp_core.model.nano_trunk import BLOCKS, MODEL_CONFIG, WIDTH
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import BackboneConfig, PromptConfig, TrainableConfig
from grmp_core.model.vision_tower import TimmVisionTower, open_vision_tower

MAX_BYTES = 24 * 2**20


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    place = tmp_path_factory.mktemp("configs") / "nano-for-tests.json"
    place.write_text(json.dumps(MODEL_CONFIG))
    open_clip.add_model_config(place)
    torch.manual_seed(0)
    return open_clip.create_model("nano-for-tests", load_weights=False).eval()


@pytest.fixture(scope="module")
def backbone(clip) -> Backbone:
    return Backbone(
        clip=clip.requires_grad_(False),
        tokenize=open_clip.get_tokenizer("nano-for-tests"),
        config=BackboneConfig(),
        image_size_px=224,
        mean=(0.48, 0.46, 0.41),
        std=(0.27, 0.26, 0.28),
        weights_sha256="",
    )


@pytest.fixture(scope="module")
def views() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8))


def test_half_precision_weights_fit_the_package(clip):
    assert sum(2 * tensor.numel() for tensor in clip.state_dict().values()) <= MAX_BYTES


def test_the_tower_is_open_clips_image_encoder(clip):
    tower = open_vision_tower(clip)
    assert type(tower) is TimmVisionTower
    assert (len(tower.blocks), tower.width, tower.num_prefix_tokens) == (BLOCKS, WIDTH, 0)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        actual = tower.finish(tower.run(tower.embed(images), None, 0))
        torch.testing.assert_close(actual, clip.encode_image(images), atol=1e-5, rtol=1e-4)


def test_prompts_are_seen_as_if_they_were_inserted(clip):
    tower = open_vision_tower(clip)
    tokens, prompts = torch.randn(2, 49, WIDTH), torch.randn(5, WIDTH)
    with torch.no_grad():
        for block in tower.blocks:
            actual = run_block(block, tokens, prompts, 0)
            torch.testing.assert_close(actual, run_block_by_insertion(block, tokens, prompts, 0), atol=1e-4, rtol=1e-4)
            assert not torch.allclose(actual, block(tokens), atol=1e-3)


def test_cached_prefixes_give_the_same_prediction(backbone, views):
    model = QualityModel(backbone, PromptConfig(), trainable=TrainableConfig(vision_blocks=2))
    learned = model.adaptable_parameters({})
    assert any(name.startswith("clip.visual.trunk.blocks.3.") for name in learned)
    assert not any("patch_embed" in name for name in learned)
    whole = model.predict(learned, views).quality_logits_BK
    tokens = model.prefix_tokens(learned, views, model.first_adapting_block)
    assert model.first_adapting_block == BLOCKS - 2
    cached = model.predict(learned, tokens, start_block=BLOCKS - 2).quality_logits_BK
    torch.testing.assert_close(cached, whole, atol=1e-4, rtol=1e-4)


def test_prompts_can_be_learned_with_second_derivatives(backbone, views):
    model = QualityModel(backbone, PromptConfig(visual_tokens=2))
    learned = {n: t.requires_grad_() for n, t in model.prompt_parameters().items()}
    loss = model.predict(learned, views[:1]).quality_logits_BK[:, 0].sum()
    tokens = learned["visual_prompt.tokens_LVD"]
    (first,) = torch.autograd.grad(loss, tokens, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), tokens)
    assert bool(torch.isfinite(second).all())
    assert float(second.abs().sum()) > 0

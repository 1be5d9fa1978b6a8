"""Heads in the place of the tower's pooling: what they are at their start, and that they are learned and kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.few_shot import adapt, predict_quality
from grmp_core.learning.labelled_views import prepare_views
from grmp_core.learning.settings import AdaptConfig, QgrConfig
from grmp_core.model.bundle import Bundle, load_predictor, read_bundle, write_bundle
from grmp_core.model.differentiable import ImageQuality
from grmp_core.model.heads import Denoiser
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import HeadConfig, PromptConfig, TrainableConfig
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.storage import locate

PROMPTS = PromptConfig(visual_tokens=2)
PANEL, DENOISE = HeadConfig(kind="attention_panel", queries=3), HeadConfig(kind="denoise", steps=2)
TRAINABLE = TrainableConfig(vision_blocks=1, text_blocks=0)


def views(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)


def model_of(backbone, head: HeadConfig | None = None) -> QualityModel:
    return QualityModel(backbone, PROMPTS, trainable=TRAINABLE, head=head)


def logits(model: QualityModel, learned: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    return model.predict(learned or {}, views()).quality_logits_BK


def test_one_query_and_identity_weights_are_mean_pooling(make_backbone):
    """`tiny-avgpool` pools by the mean: there this head is the plain one."""
    plain, panel = (
        model_of(make_backbone("tiny-avgpool"), head) for head in (None, HeadConfig(kind="attention_panel", queries=1))
    )
    assert torch.equal(panel.head.queries_QD, torch.zeros(1, 48))
    torch.testing.assert_close(logits(panel), logits(plain), atol=1e-4, rtol=1e-5)


def test_a_panel_is_the_mean_vote_of_its_queries(make_backbone):
    panel = model_of(make_backbone(), PANEL)
    queries = panel.head.queries_QD.detach() * 3
    alone = [
        logits(
            model_of(make_backbone(), HeadConfig(kind="attention_panel", queries=1)), {"head.queries_QD": query[None]}
        )
        for query in queries
    ]
    found = logits(panel, {"head.queries_QD": queries})
    torch.testing.assert_close(found, torch.stack(alone).mean(dim=0), atol=1e-4, rtol=1e-4)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


def test_no_noise_level_is_the_plain_head_bit_for_bit(make_backbone):
    plain, denoise = (model_of(make_backbone(), head) for head in (None, HeadConfig(kind="denoise", steps=0)))
    assert torch.equal(logits(denoise), logits(plain))


def test_a_denoiser_that_knows_the_noise_gives_the_feature_back(make_backbone, monkeypatch):
    tower = open_vision_tower(make_backbone().clip)
    head = Denoiser(3, 48, torch.Generator().manual_seed(0))
    pooled_BD = torch.randn(2, 48, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(tower, "pool", lambda tokens: tokens)
    votes_BVD, loss = head(tower, pooled_BD, None)
    assert votes_BVD.shape == (2, 1 + 2 * 3, 48)
    assert loss is None
    assert torch.equal(votes_BVD[:, 0], pooled_BD)
    torch.testing.assert_close(votes_BVD.mean(dim=1), pooled_BD, atol=1e-5, rtol=1e-5)  # an untrained one adds ± noise
    assert (votes_BVD[:, 1] - pooled_BD).abs().max() > 0.05
    noise_BVD = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(7))
    keep_3, size_B11 = head.keep_S, pooled_BD.square().mean(dim=1).sqrt()[:, None, None]
    noisy = keep_3.sqrt()[:, None] * pooled_BD[:, None] + (1 - keep_3).sqrt()[:, None] * size_B11 * noise_BVD
    learned_votes, learned_loss = head(tower, pooled_BD, 7)
    torch.testing.assert_close(learned_votes[:, 1:], noisy / keep_3.sqrt()[:, None])
    torch.testing.assert_close(learned_loss, 0.1 * noise_BVD.square().mean())
    assert not torch.equal(head(tower, pooled_BD, 8)[0], learned_votes)


@pytest.mark.parametrize("head", [PANEL, DENOISE], ids=lambda head: head.kind)
def test_a_head_adapts_the_same_twice_and_goes_through_a_bundle(make_backbone, tmp_path, head):
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 32, 32, 3), dtype=np.uint8)
    config = AdaptConfig(
        epochs=2, folds=2, lr=0.5, head=head.kind, panel_queries=3, denoise_steps=2, qgr=QgrConfig(strength=1.0)
    )
    assert config.head_config == head

    def adapted():
        model = model_of(make_backbone(), config.head_config)
        start = model.prompt_parameters()
        labelled = prepare_views(model, start, images, images, np.linspace(0.1, 0.9, 8), [str(i) for i in range(8)])
        result = adapt(model, model.adaptable_parameters(start), labelled, config, seed=1)
        return (
            model,
            {**start, **result.parameters},
            predict_quality(model, result.parameters, labelled.score_tokens_NGTD),
        )

    model, parameters, expected = adapted()
    _, again, _ = adapted()
    assert all(torch.equal(again[name], tensor) for name, tensor in parameters.items())
    first = "head.queries_QD" if head == PANEL else "head.second_DH"
    assert not torch.equal(model.adaptable_parameters({})[first], parameters[first])
    backbone = make_backbone()
    bundle = Bundle(
        kind="model", backbone=backbone.config, backbone_sha256=backbone.weights_sha256, prompts=PROMPTS,
        views=ViewConfig(score_grid=1), precision="fp32", parameters=parameters, head=config.head_config,
    )  # fmt: skip
    write_bundle(locate(tmp_path / "bundle"), bundle)
    read = read_bundle(locate(tmp_path / "bundle"))
    assert (read.head, read.digest) == (head, bundle.digest)
    assert dataclasses.replace(read, head=HeadConfig()).digest != read.digest
    found = load_predictor(read, "here")(torch.from_numpy(images[:, 0]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    pixels = torch.from_numpy(images[:, 0]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(ImageQuality(read, "here")(pixels), expected, atol=1e-4, rtol=1e-3)


def test_a_plain_head_leaves_digest_and_tensors_as_they_were(make_backbone):
    plain = model_of(make_backbone())
    assert plain.head is None
    assert not any(name.startswith("head.") for name in plain.adaptable_parameters({}))
    assert AdaptConfig(panel_queries=9, denoise_steps=9).head_config == HeadConfig()


def test_towers_without_patch_tokens_take_no_panel(make_backbone):
    with pytest.raises(InputError, match="does not fit this image tower"):
        QualityModel(make_backbone("tiny-resnet"), PromptConfig(), head=PANEL)
    QualityModel(make_backbone("tiny-resnet"), PromptConfig(), head=DENOISE)
    QualityModel(make_backbone("tiny-timm"), PROMPTS, head=PANEL)

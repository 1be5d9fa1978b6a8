"""The prompted model against open_clip's own towers."""

from __future__ import annotations

import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.model import blocks, vision_tower
from grmp_core.model.blocks import run_block_by_insertion
from grmp_core.model.predictor import Predictor
from grmp_core.model.prompts import TextPrompt, num_visual_tokens
from grmp_core.model.quality_model import QualityModel, unit
from grmp_core.model.scene_words import SCENES
from grmp_core.model.settings import HeadConfig, PromptConfig, TrainableConfig
from grmp_core.model.text_tower import open_text_tower
from grmp_core.model.vision_tower import open_vision_tower

TRANSFORMERS = [
    "tiny-quickgelu",
    "tiny-gelu",
    "tiny-avgpool",
    "tiny-layerscale",
    "tiny-customtext",
    "tiny-coca-text",
    "tiny-qknorm",
    "tiny-timm",
]


def views(model: QualityModel, count: int = 3) -> torch.Tensor:
    shape = (count, model.image_size_px, model.image_size_px, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def model_of(backbone, **kwargs) -> QualityModel:
    prompts = kwargs.pop("prompts", PromptConfig(visual_tokens=5))
    return QualityModel(backbone, prompts, **kwargs)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "tiny-resnet"])
def test_unprompted_tower_is_open_clips_image_encoder(name, make_clip, make_backbone):
    model = model_of(make_backbone(name), prompts=PromptConfig(visual_tokens=0))
    normalized = model.normalize(views(model))
    with torch.no_grad():
        expected = make_clip(name).encode_image(normalized)
        ours = model.vision_tower.finish(model.vision_tower.run(model.vision_tower.embed(normalized), None, 0))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "tiny-resnet"])
def test_context_set_to_real_words_is_open_clips_text_encoder(name, make_clip, make_backbone):
    backbone = make_backbone(name)
    prompts = PromptConfig(context_init="a photo of a", visual_tokens=0)
    prompt = TextPrompt(prompts, backbone.tokenize, open_text_tower(backbone.clip), torch.Generator())
    sentences = ["a photo of a high quality.", "a photo of a low quality."]
    with torch.no_grad():
        expected = make_clip(name).encode_text(backbone.tokenize(sentences))
        torch.testing.assert_close(prompt(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_prompts_as_keys_and_values_equal_prompts_inserted_as_tokens(name, make_backbone, monkeypatch):
    model = model_of(make_backbone(name))
    start = model.prompt_parameters()

    def outcome():
        leaves = {n: t.clone().requires_grad_() for n, t in start.items()}
        logits = model.predict(leaves, views(model)).quality_logits_BK
        return logits, torch.autograd.grad(logits[:, 0].sum(), list(leaves.values()))

    fast_logits, fast_gradients = outcome()
    monkeypatch.setattr(vision_tower.VisionTower, "run_block", staticmethod(run_block_by_insertion))
    plain_logits, plain_gradients = outcome()
    torch.testing.assert_close(fast_logits, plain_logits, atol=1e-5, rtol=1e-5)
    for fast, plain in zip(fast_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)
    assert all(gradient.abs().sum() > 0 for gradient in fast_gradients)


def test_token_counts_per_block(make_backbone, monkeypatch):
    counts = []
    plain = blocks.attend

    def counting(query, key, value, mask=None):
        counts.append((query.shape[-2], key.shape[-2]))
        return plain(query, key, value, mask)

    monkeypatch.setattr(blocks, "attend", counting)
    model = model_of(make_backbone())
    model.predict(model.prompt_parameters(), views(model))
    assert counts[:3] == [(17, 17 + 5)] * 3  # 1 class + 16 patch tokens look at themselves and at 5 prompt tokens


def test_visual_tokens_scale_with_width_and_default_is_the_papers(make_backbone):
    tower = open_vision_tower(make_backbone().clip)
    assert num_visual_tokens(PromptConfig(), tower) == round(100 * 48 / 768)
    tower.width = 768
    assert num_visual_tokens(PromptConfig(), tower) == 100


def test_gradients_reach_the_prompts_only(make_backbone):
    model = model_of(make_backbone())
    leaves = {n: t.requires_grad_() for n, t in model.prompt_parameters().items()}
    model.predict(leaves, views(model)).quality_logits_BK.sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in leaves.values())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-avgpool", "tiny-timm"])
def test_the_prompts_norm_is_learned_with_them_and_used_by_the_student_only(name, make_backbone):
    prompts = PromptConfig(visual_tokens=5, prompt_norm=True)
    model = model_of(make_backbone(name), prompts=prompts, trainable=TrainableConfig())
    start = model.prompt_parameters()
    norm = {"visual_prompt.norm.weight", "visual_prompt.norm.bias"}
    assert norm <= start.keys()
    assert not norm & model.adaptable_parameters(start).keys()  # frozen with the visual prompts, as published
    leaves = {n: t.requires_grad_() for n, t in start.items()}
    before = model.predict(leaves, views(model)).quality_logits_BK
    before[:, 0].sum().backward()
    assert all(leaves[n].grad.abs().sum() > 0 for n in norm)
    other = torch.linspace(-1, 1, len(start["visual_prompt.norm.bias"]))  # the next norm takes what is even away
    moved = {n: t.detach() + (other if n in norm else 0) for n, t in leaves.items()}
    assert not torch.allclose(model.predict(moved, views(model)).quality_logits_BK, before, atol=1e-3)
    teacher = model.teacher_scene_logits(views(model))
    expected = Predictor(model, moved)(views(model))
    assert torch.equal(model.teacher_scene_logits(views(model)), teacher)
    torch.testing.assert_close(expected, model.predict(moved, views(model)).quality_logits_BK.softmax(-1)[:, 0])
    assert "visual_prompt.norm.weight" not in model_of(make_backbone(name)).prompt_parameters()


def test_a_norm_without_visual_prompts_is_refused(make_backbone):
    for prompts in (PromptConfig(visual_tokens=0, prompt_norm=True), PromptConfig(prompt_norm=True)):
        with pytest.raises(InputError, match="prompt_norm belongs to visual prompts"):
            model_of(make_backbone("tiny-resnet"), prompts=prompts)


def test_resnet_takes_text_prompts_only(make_backbone):
    assert model_of(make_backbone("tiny-resnet"), prompts=PromptConfig()).visual_prompt is None
    with pytest.raises(InputError, match="takes no visual prompts"):
        model_of(make_backbone("tiny-resnet"), prompts=PromptConfig(visual_tokens=4))


def test_teacher_is_zero_shot_clip(make_clip, make_backbone):
    backbone = make_backbone()
    model = model_of(backbone)
    clip = make_clip()
    normalized = model.normalize(views(model))
    sentences = backbone.tokenize([f"a photo of a {scene}" for scene in SCENES])
    with torch.no_grad():
        expected = clip.logit_scale.exp() * unit(clip.encode_image(normalized)) @ unit(clip.encode_text(sentences)).T
    torch.testing.assert_close(model.teacher_scene_logits(views(model)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-timm"])
def test_cached_prefix_gives_the_same_prediction(name, make_backbone):
    trainable = TrainableConfig(vision_blocks=2)
    model = model_of(make_backbone(name), trainable=trainable)
    parameters = model.adaptable_parameters(model.prompt_parameters())
    prefix = model.prefix_tokens(model.prompt_parameters(), views(model), model.first_adapting_block)
    cached = model.predict(parameters, prefix, start_block=model.first_adapting_block, scenes=True)
    whole = model.predict(parameters, views(model), scenes=True)
    torch.testing.assert_close(cached.quality_logits_BK, whole.quality_logits_BK)
    torch.testing.assert_close(cached.scene_logits_BS, whole.scene_logits_BS)


@pytest.mark.parametrize(
    ("trainable", "head", "coupled"),
    [
        (TrainableConfig(vision_blocks=1), HeadConfig(), False),
        (TrainableConfig(vision_blocks=1), HeadConfig(kind="attention_panel"), False),
        (TrainableConfig(), HeadConfig(kind="denoise"), False),
        (TrainableConfig(lora_rank=2, vision_blocks=2), HeadConfig(), True),
    ],
)
def test_a_model_on_another_device_takes_learned_tensors_of_this_one(trainable, head, coupled, make_backbone):
    """As a GPU does with a bundle's tensors; PyTorch's `meta` device refuses the same mixtures."""
    prompts = PromptConfig(coupled=coupled)
    model = QualityModel(make_backbone("tiny-quickgelu"), prompts, trainable=trainable, head=head)
    start, inputs = model.prompt_parameters(), views(model)
    adaptable = model.adaptable_parameters(start)
    model.to("meta")
    assert model.prefix_tokens(start, inputs, 2).is_meta
    prediction = model.predict(adaptable, inputs, scenes=True, noise_seed=0)
    assert prediction.quality_logits_BK.is_meta
    assert prediction.scene_logits_BS.is_meta
    assert model.teacher_scene_logits(inputs).is_meta
    predictor = Predictor(model, start, deep=True)
    assert predictor.look(inputs)[0].is_meta


def test_default_adaptable_parameters_are_the_published_ones(make_backbone):
    model = model_of(make_backbone(), trainable=TrainableConfig(vision_blocks=1, text_blocks=1))
    names = set(model.adaptable_parameters(model.prompt_parameters()))
    assert "text_prompt.context_MD" in names
    assert "clip.visual.ln_post.weight" in names
    assert "clip.ln_final.bias" in names
    assert {n.split(".")[4] for n in names if n.startswith("clip.visual.transformer")} == {"2"}
    assert not any("visual_prompt" in n or "clip.visual.proj" in n for n in names)


def test_nothing_to_train_is_refused(make_backbone):
    nothing = TrainableConfig(text_context=False, vision_blocks=0, text_blocks=0, final_norms=False)
    model = model_of(make_backbone(), trainable=nothing)
    with pytest.raises(InputError, match="switches everything off"):
        model.adaptable_parameters({})


def test_masters_keep_float32_where_the_frozen_weights_are_narrow(make_backbone):
    trainable = TrainableConfig(vision_blocks=1)
    wide = model_of(make_backbone(), trainable=trainable)
    narrow = model_of(make_backbone(), trainable=trainable, precision="bf16")
    ours = narrow.adaptable_parameters(narrow.prompt_parameters())
    for name, tensor in wide.adaptable_parameters(wide.prompt_parameters()).items():
        assert ours[name].dtype == torch.float32
        assert torch.equal(ours[name], tensor)
    assert narrow.clip.visual.conv1.weight.dtype == torch.bfloat16


def test_bf16_predicts_like_fp32(make_backbone):
    wide, narrow = model_of(make_backbone()), model_of(make_backbone(), precision="bf16")
    a = wide.predict(wide.prompt_parameters(), views(wide, 8)).quality_logits_BK
    b = narrow.predict(narrow.prompt_parameters(), views(wide, 8)).quality_logits_BK
    torch.testing.assert_close(a, b, atol=0.15, rtol=0.05)


def test_predictor_gives_the_softmax_of_the_logits(make_backbone):
    model = model_of(make_backbone())
    parameters = {n: t + 0.01 for n, t in model.prompt_parameters().items()}
    expected = model.predict(parameters, views(model)).quality_logits_BK.softmax(-1)[:, 0]
    quality = Predictor(model, parameters)(views(model))
    torch.testing.assert_close(quality, expected)
    assert ((quality >= 0) & (quality <= 1)).all()


def test_foreign_tensors_are_refused(make_backbone):
    model = model_of(make_backbone())
    with pytest.raises(InputError, match="no place in this model"):
        model.check_parameters({"visual_prompt.nonsense": torch.zeros(1)})
    with pytest.raises(InputError, match="has shape"):
        model.check_parameters({"text_prompt.context_MD": torch.zeros(4, 3)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PromptConfig(context_tokens=80), "use fewer"),
        (PromptConfig(context_tokens=3, context_init="a photo of a"), "tokens long"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(config, message, make_backbone):
    with pytest.raises(InputError, match=message):
        model_of(make_backbone(), prompts=config)


def test_no_context_at_all_is_the_plain_phrase(make_clip, make_backbone):
    backbone = make_backbone()
    model = model_of(backbone, prompts=PromptConfig(context_tokens=0, visual_tokens=0))
    with torch.no_grad():
        expected = make_clip().encode_text(backbone.tokenize(["high quality.", "low quality."]))
        torch.testing.assert_close(model.text_prompt(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-timm"])
def test_norms_only_moves_the_norms_of_the_last_blocks_and_no_matrix(name, make_backbone):
    backbone = make_backbone(name)
    trainable = TrainableConfig(text_context=False, vision_blocks=2, norms_only=True)
    model = QualityModel(backbone, PromptConfig(visual_tokens=2), trainable=trainable)
    moved = model.adaptable_parameters({})
    blocks = backbone.clip.visual.trunk.blocks if name == "tiny-timm" else backbone.clip.visual.transformer.resblocks
    norms = [module for block in blocks[-2:] for module in block.modules() if isinstance(module, torch.nn.LayerNorm)]
    towers_own = 4  # weight and bias of the norm behind the last block of each tower
    assert len(norms) == 4
    assert len(moved) == 2 * len(norms) + towers_own
    assert all(tensor.dim() == 1 for tensor in moved.values())
    assert model.first_adapting_block == len(blocks) - 2


def test_norms_only_and_low_rank_updates_exclude_one_another():
    with pytest.raises(InputError, match="norms_only moves no weight matrix"):
        TrainableConfig(norms_only=True, lora_rank=2)

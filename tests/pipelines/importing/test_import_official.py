"""Checkpoints as the published code saves them, made of random weights, against the published forward."""

from __future__ import annotations

import math
import re

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.model.backbone import IMAGENET_MEAN, IMAGENET_STD, BackboneConfig, load_backbone
from grmp_core.model.bundle import load_predictor, read_bundle
from grmp_core.storage import locate
from pipelines.cli import main
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.models import ImportConfig
from pipelines.configuration.schema import Config
from pipelines.few_shot.starting_model import read_prompts
from pipelines.importing.import_run import PUBLISHED_BACKBONE, import_official
from pipelines.importing.published_keys import read_published
from tests.published import Published

NUM_TOKENS = 5


def published(make_clip, tokenize, *, norm: bool, tuned: bool) -> Published:
    """The published model with random prompts; `tuned`: its last blocks and final norms moved, too."""
    model = Published(make_clip(), tokenize, IMAGENET_MEAN, IMAGENET_STD, NUM_TOKENS, norm)
    generator = torch.Generator().manual_seed(5)
    tuned_parts = ("clip.visual.transformer.resblocks.2.", "clip.transformer.resblocks.2.", "clip.visual.ln_post.")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("clip.") or (tuned and name.startswith((*tuned_parts, "clip.ln_final."))):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def saved(model: Published, *, tuned: bool) -> dict[str, Tensor]:
    """The state dict under the published names, as its DataParallel has it."""
    state = {
        "prompt_learner2.token_prefix": torch.zeros(2, 1, 40),
        "prompt_learner2.token_suffix": torch.zeros(2, 72, 40),
    }
    for name, tensor in model.state_dict().items():
        if name.startswith("clip.visual."):
            state[name.replace("clip.visual.", "image_encoder.")] = tensor
        elif name == "clip.logit_scale":
            state["logit_scale"] = tensor
        elif name == "clip.token_embedding.weight":
            state |= {"text_encoder.token_embedding.weight": tensor} if tuned else {}
        elif name.startswith("clip."):
            state[name.replace("clip.", "text_encoder.")] = tensor
        else:
            state["prompt_learner2.ctx" if name == "ctx" else f"image_encoder.{name}"] = tensor
    return {f"module.{name}": tensor.clone() for name, tensor in state.items()}


@pytest.fixture
def config(checkpoints, tmp_path) -> Config:
    backbone = BackboneConfig(name="tiny-quickgelu", checkpoint=checkpoints())
    file = ImportConfig(file=str(tmp_path / "model.pt"))
    return Config(output=str(tmp_path / "out"), backbone=backbone, import_official=file)


@pytest.mark.parametrize("norm", [True, False], ids=["prompt_norm", "no norm"])
@pytest.mark.parametrize("tuned", [True, False], ids=["fine-tuned", "pre-trained"])
def test_an_imported_model_computes_what_the_published_one_does(config, make_clip, make_backbone, norm, tuned):
    model = published(make_clip, make_backbone().tokenize, norm=norm, tuned=tuned)
    state = saved(model, tuned=tuned)
    torch.save({"state_dict": state} if tuned else state, config.import_official.file)
    result = import_official(config)
    bundle = read_bundle(locate(result.bundle))
    assert (bundle.kind, result.clip_tensors) == (("model", 28) if tuned else ("prompts", 0))
    assert (bundle.views.mode, bundle.views.score_grid) == ("official", 1)
    assert bundle.backbone.normalization == "imagenet"
    assert bundle.sources == ("kadid10k", "tid2013")
    views = torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(views)[0].softmax(dim=-1)[:, 0]
    assert expected.std() > 0.01
    torch.testing.assert_close(load_predictor(bundle, "test")(views), expected, atol=1e-4, rtol=0)


def test_imported_prompts_start_no_adaptation_to_the_sets_that_they_know(config, make_clip, make_backbone):
    torch.save(saved(published(make_clip, make_backbone().tokenize, norm=True, tuned=False), tuned=False),
               config.import_official.file)  # fmt: skip
    folder = locate(import_official(config).bundle)
    assert read_prompts(config, folder).kind == "prompts"
    for name in ("kadid10k", "tid2013"):
        with pytest.raises(InputError, match=f"pre-trained on the scores of {name}"):
            read_prompts(Config(target=TargetConfig(dataset=name, path="x")), folder)


def test_a_backbone_with_its_own_normalization_is_another_one(config, make_clip, make_backbone):
    state = saved(published(make_clip, make_backbone().tokenize, norm=True, tuned=False), tuned=False)
    torch.save(state, config.import_official.file)
    bundle = read_bundle(locate(import_official(config).bundle))
    with pytest.raises(InputError, match="normalization=imagenet, not own"):
        load_predictor(bundle, "test", load_backbone(config.backbone))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("prompt_learner2.ctx", (), "M x D"),
        ("image_encoder.prompt_embeddings", (3, 8), "1 x V x D"),
        ("image_encoder.prompt_embeddings", (), "1 x V x D"),
        ("image_encoder.deep_prompt_embeddings", (2, 4, 8), "(L - 1) x V x D with V and D"),
        ("image_encoder.deep_prompt_embeddings", (2,), "(L - 1) x V x D with V and D"),
    ],
)
def test_prompts_of_another_shape_are_one_line(tmp_path, name, shape, expected):
    state = {
        "prompt_learner2.ctx": torch.zeros(4, 8),
        "image_encoder.prompt_embeddings": torch.zeros(1, 3, 8),
        "image_encoder.deep_prompt_embeddings": torch.zeros(2, 3, 8),
        "image_encoder.prompt_proj.weight": torch.zeros(8, 8),
        "image_encoder.prompt_proj.bias": torch.zeros(8),
    }
    file = str(tmp_path / "model.pt")
    torch.save(state, file)
    assert read_published(file)["visual_prompt.tokens_LVD"].shape == (3, 3, 8)
    torch.save({**state, name: torch.zeros(shape)}, file)
    with pytest.raises(InputError, match=re.escape(f"expected {name} of shape {expected}")) as caught:
        read_published(file)
    assert f"found {shape}; give" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("module.prompt_learner2.ctx"), "expected prompt_learner2.ctx among its tensors"),
        (lambda state: state.update({"module.head.weight": torch.zeros(1)}), "does not have: head.weight"),
        (lambda state: state.pop("module.image_encoder.proj"), r"1 tensors are missing .* such as clip\.visual\.proj"),
        (lambda state: state.update({"module.image_encoder.proj": torch.zeros(2, 2)}), "of another architecture"),
        (lambda state: state["module.logit_scale"].add_(0.1), "other CLIP weights .* clip.logit_scale differs"),
        (lambda state: state["module.text_encoder.token_embedding.weight"].mul_(2), "token_embedding.weight differs"),
        (lambda state: state.update({"epoch": 3}), "no table of tensors"),
        (lambda state: state.update({"run": print}), "cannot be read as tensors alone"),
    ],
)
def test_another_checkpoint_is_one_line(config, make_clip, make_backbone, change, message, capsys):
    state = saved(published(make_clip, make_backbone().tokenize, norm=True, tuned=True), tuned=True)
    change(state)
    torch.save(state, config.import_official.file)
    with pytest.raises(InputError, match=message) as caught:
        import_official(config)
    assert "\n" not in str(caught.value)


def test_the_command_reads_safetensors_too(config, make_clip, make_backbone, tmp_path, capsys):
    state = saved(published(make_clip, make_backbone().tokenize, norm=False, tuned=True), tuned=True)
    save_file(state, tmp_path / "model.safetensors")
    settings = ["--set", f"output={config.output}", "--set", f"backbone.checkpoint={config.backbone.checkpoint}"]
    settings += ["--set", "backbone.name=tiny-quickgelu", "--set", "preset=none"]
    assert main(["import-official", str(tmp_path / "model.safetensors"), *settings]) == 0
    assert "a fine-tuned model: 4 tensors of prompts, 28 of CLIP" in capsys.readouterr().out
    assert main(["import-official", "/nowhere.pt", *settings]) == 2
    assert "'/nowhere.pt' does not exist" in capsys.readouterr().err
    assert main(["import-official", *settings]) == 2
    assert "give the checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_in_full_size_it_is_the_published_model_too(tmp_path):
    """ViT-B/16 with random weights, 100 visual tokens; blocks 8 to 11 of both towers and the final norms are moved."""
    torch.manual_seed(0)
    clip = open_clip.create_model(PUBLISHED_BACKBONE, load_weights=False).eval()
    clip.logit_scale.data.fill_(math.log(100))
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    model = Published(clip, open_clip.get_tokenizer(PUBLISHED_BACKBONE), IMAGENET_MEAN, IMAGENET_STD, 100, norm=True)
    moved = re.compile(r"resblocks\.(8|9|10|11)\.|ln_post|ln_final")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("clip.") or moved.search(name):
                parameter.add_(0.02 * torch.randn_like(parameter))
    torch.save(saved(model, tuned=True), tmp_path / "model.pt")
    backbone = BackboneConfig(checkpoint=str(tmp_path / "clip.pt"))  # the name is the published one by itself
    file = ImportConfig(file=str(tmp_path / "model.pt"))
    result = import_official(Config(output=str(tmp_path / "out"), backbone=backbone, import_official=file))
    assert result.clip_tensors == 100
    coarse = torch.randint(0, 256, (6, 7, 7, 3), dtype=torch.uint8)
    views = coarse.repeat_interleave(32, dim=1).repeat_interleave(32, dim=2)
    with torch.no_grad():
        expected = model(views)[0].softmax(dim=-1)[:, 0]
    assert expected.std() > 1e-3
    assert ((expected > 0.01) & (expected < 0.99)).all()
    found = load_predictor(read_bundle(locate(result.bundle)), "test")(views)
    print(f"largest difference of quality: {float((found - expected).abs().max()):.1e}")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)

"""Loading weights: every way that can fail says what to do."""

from __future__ import annotations

import json
import socket
from importlib import resources

import open_clip
import pytest
import torch
from torch import nn

from grmp_core.errors import InputError
from grmp_core.model.backbone import hash_weights, load_backbone
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from tests.conftest import VARIANTS, tiny_variant


def test_open_clip_makes_the_embedded_backbone():
    weights = str(resources.files("grmp_core") / "assets" / "grmp-nano.safetensors")
    clip = open_clip.create_model("grmp-nano", pretrained=weights).eval()
    assert hash_weights(clip) == load_backbone(BackboneConfig()).weights_sha256


def test_equal_weights_have_equal_hashes(make_backbone):
    assert make_backbone().weights_sha256 == make_backbone().weights_sha256
    assert make_backbone().weights_sha256 != make_backbone(seed=1).weights_sha256


@pytest.mark.parametrize("name", VARIANTS)
def test_every_tensor_is_the_files_and_the_random_state_is_put_back(make_clip, make_backbone, name):
    made, before = make_clip(name), torch.get_rng_state()
    loaded = make_backbone(name).clip
    assert torch.equal(torch.get_rng_state(), before)
    for tensors in (lambda clip: dict(clip.named_parameters()), lambda clip: dict(clip.named_buffers())):
        expected, found = tensors(made), tensors(loaded)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[tensor], found[tensor]) for tensor in expected)


def test_weights_that_are_drawn_until_they_are_in_range_are_zero_at_once(make_backbone, monkeypatch):
    def create(name: str, **options) -> nn.Module:
        dirty = torch.full((64, 64), 5.0)
        assert not nn.init.trunc_normal_(dirty, a=-2, b=2).any()
        return create_model(name, **options)

    create_model = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", create)
    make_backbone()


def test_backbones_of_a_name_share_their_tokenizer(make_backbone):
    assert make_backbone().tokenize is make_backbone(seed=1).tokenize
    assert make_backbone().tokenize(["a photo"]).shape == (1, 77)


def test_a_name_that_is_registered_again_has_its_own_tokenizer(tmp_path):
    for length in (77, 32):
        changed = tiny_variant(text_cfg={"context_length": length})
        (tmp_path / "tiny-again.json").write_text(json.dumps(changed))
        open_clip.add_model_config(tmp_path / "tiny-again.json")
        weights = open_clip.create_model("tiny-again", load_weights=False).state_dict()
        assert load_backbone(BackboneConfig(name="tiny-again"), weights).tokenize(["a photo"]).shape == (1, length)


def test_a_torch_checkpoint_loads_like_a_safetensors_one(make_clip, make_backbone, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(make_clip().state_dict(), path)
    loaded = load_backbone(BackboneConfig(name="tiny-quickgelu", checkpoint=str(path)))
    assert loaded.weights_sha256 == make_backbone().weights_sha256


def test_a_pickle_with_code_is_not_run(tmp_path, model_configs):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path = tmp_path / "weights.pt"
    torch.save({"bomb": Bomb()}, path)
    with pytest.raises(InputError, match="does not hold weights"):
        load_backbone(BackboneConfig(name="tiny-quickgelu", checkpoint=str(path)))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BackboneConfig(name="ViT-B-16-quickglu"), "ViT-B-16-quickgelu"),
        (BackboneConfig(name="ViT-B-16-quickgelu"), "has no weights.*openai"),
        (BackboneConfig(name="ViT-B-16-quickgelu", pretrained="opnai"), "not a tag.*openai"),
        (BackboneConfig(name=EMBEDDED, pretrained="openai"), "is embedded and has no tags"),
        (BackboneConfig(name="ViT-B-32", checkpoint="/nowhere/weights.pt"), "does not exist"),
    ],
)
def test_what_is_missing_is_named(config, message):
    with pytest.raises(InputError, match=message):
        load_backbone(config)


def test_weights_of_another_architecture_are_refused(checkpoints):
    with pytest.raises(InputError, match="does not hold weights of tiny-layerscale"):
        load_backbone(BackboneConfig(name="tiny-layerscale", checkpoint=checkpoints("tiny-quickgelu")))


def test_a_download_that_fails_says_what_else_there_is(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # fails at once instead of after retries
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(InputError, match=f"could not be downloaded.*backbone.checkpoint.*{EMBEDDED}"):
        load_backbone(BackboneConfig(name="RN50", pretrained="yfcc15m"))

"""A whole model in one file: what is written is what is read, bit for bit, and nothing else is taken."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load, save, save_file

import grmp_core
from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, description_of, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import PromptConfig, TrainableConfig
from grmp_core.model.whole_model import CONFIG, WEIGHTS, read_whole_model, whole_model_bytes
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate


@pytest.fixture
def bundle(make_backbone) -> Bundle:
    prompts = PromptConfig(visual_tokens=3)
    backbone = make_backbone()
    model = QualityModel(backbone, prompts, seed=1, trainable=TrainableConfig(vision_blocks=1))
    return Bundle(
        kind="model",
        backbone=backbone.config,
        backbone_sha256=backbone.weights_sha256,
        prompts=prompts,
        views=ViewConfig(score_grid=1),
        precision="fp32",
        parameters={**model.prompt_parameters(), **{n: 1.1 * t for n, t in model.adaptable_parameters({}).items()}},
        score_range=ScoreRange(mos_min=1, mos_max=5),
        metrics={"srcc": 0.5, "plcc": float("nan")},
        provenance={"lambda": 2.0},
    )


@pytest.fixture
def data(bundle) -> bytes:
    return whole_model_bytes(bundle, load_backbone(bundle.backbone))


def test_the_file_alone_is_the_model(bundle, data, tmp_path, monkeypatch):
    write_bundle(locate(tmp_path / "bundle"), bundle)
    images = torch.rand(3, 3, 40, 36, generator=torch.Generator().manual_seed(0))
    expected = grmp_core.load(tmp_path / "bundle")(images)
    assert expected.std() > 0
    (tmp_path / "one.safetensors").write_bytes(data)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / WEIGHTS).write_bytes(data)
    (tmp_path / "hub" / CONFIG).write_text("{}")
    assert bundle.backbone.checkpoint.encode() not in data, "places of this machine stay here"
    for place in (tmp_path / "one.safetensors", tmp_path / "hub"):
        model = grmp_core.load(place)
        assert torch.equal(model(images), expected)
        assert model.score_range == bundle.score_range


def test_all_that_a_bundle_holds_comes_back(bundle, data, tmp_path):
    (tmp_path / "one.safetensors").write_bytes(data)
    again, backbone = read_whole_model(locate(tmp_path / "one.safetensors"))
    assert backbone.weights_sha256 == bundle.backbone_sha256
    assert again.digest == bundle.digest
    ours, theirs = (description_of(one) for one in (bundle, again))
    differing = {name for name in ours if repr(ours[name]) != repr(theirs[name])}
    assert differing == {"backbone"}  # the place of the weights file
    assert theirs["backbone"] == {**ours["backbone"], "checkpoint": None}


def test_weights_take_16_bits_only_where_nothing_is_lost(make_backbone, bundle):
    backbone = load_backbone(bundle.backbone)
    state = backbone.clip.state_dict()
    name = "visual.conv1.weight"
    halved = {n: t.half().float() if n == name else t for n, t in state.items()}
    backbone.clip.load_state_dict(halved)
    digest = make_backbone().weights_sha256
    types = {n: t.dtype for n, t in load(whole_model_bytes(bundle, backbone)).items()}
    assert backbone.weights_sha256 == digest, "the note of the backbone is not made anew"
    assert types[f"backbone.{name}"] == torch.float16
    assert types["backbone.token_embedding.weight"] == torch.float32


def test_another_backbone_is_refused(bundle, make_backbone):
    with pytest.raises(InputError, match="made with another backbone"):
        whole_model_bytes(bundle, make_backbone(seed=1))


def test_foreign_and_changed_files_are_refused_in_one_line(bundle, data, tmp_path):
    file = tmp_path / "one.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(InputError, match="holds no whole model of grmp-iqa"):
        grmp_core.load(file)
    for damaged in (data[:100], b"", b"\xff" * 64):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="holds no whole model of grmp-iqa"):
            grmp_core.load(file)
    file.write_bytes(data[:-1000])
    with pytest.raises(InputError, match="is damaged"):
        grmp_core.load(file)
    file.write_bytes(data[:-40] + bytes(40))
    with pytest.raises(InputError, match="was changed after it was written"):
        grmp_core.load(file)
    newer = data.replace(b'\\"version\\": 1,', b'\\"version\\": 2,', 1)
    assert newer != data
    file.write_bytes(newer)
    with pytest.raises(InputError, match="has format version 2, this program reads 1"):
        grmp_core.load(file)
    with pytest.raises(InputError, match=r"none\.safetensors does not exist"):
        grmp_core.load(tmp_path / "none.safetensors")


def test_tensors_of_another_shape_are_refused(bundle, data, tmp_path):
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])["__metadata__"]
    tensors = load(data)
    tensors["backbone.visual.conv1.weight"] = torch.zeros(1)
    (tmp_path / "one.safetensors").write_bytes(save(tensors, metadata=header))
    with pytest.raises(InputError, match="is damaged"):
        grmp_core.load(tmp_path / "one.safetensors")

"""The ONNX file gives what the bundle gives, in any batch, and says how crops are made."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.export import onnx_scorer
from grmp_core.export.onnx_scorer import CropQuality, largest_difference, onnx_bytes, onnx_session
from grmp_core.imaging.views import ViewConfig, scoring_views
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle
from grmp_core.model.ensemble import joined
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig, HeadConfig, PromptConfig, TrainableConfig
from grmp_core.procedural import scenes


def made_of(backbone, precision: str = "fp32") -> Bundle:
    """With learned tokens in every block, and 2 x 2 views."""
    prompts = PromptConfig(visual_tokens=3)
    model = QualityModel(backbone, prompts, seed=1)
    learned = {name: 5 * tensor for name, tensor in model.prompt_parameters().items()}
    return Bundle(
        kind="model",
        backbone=backbone.config,
        backbone_sha256=backbone.weights_sha256,
        prompts=prompts,
        views=ViewConfig(score_grid=2),
        precision=precision,
        parameters={**learned, "calibration_2": torch.tensor([1.5, 0.2])},
    )


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    return made_of(load_backbone(BackboneConfig()))


@pytest.fixture(scope="module")
def exported(embedded) -> bytes:
    return onnx_bytes(CropQuality(embedded, "here"), embedded)


def test_pictures_have_the_score_of_the_bundle(embedded, exported):
    scorer, session = Scorer(embedded, "here"), onnx_session(exported)
    scores = []
    for seed in range(6):
        picture = scenes.reference(seed, 224 + 15 * seed, 260)
        (quality,) = scorer.score([picture])
        crops = scoring_views(picture, embedded.views, 224)
        (of_crops,) = session.run(["quality"], {"crops": crops})
        assert of_crops.mean() == pytest.approx(quality.quality, abs=onnx_scorer.PARITY)
        scores.append(quality.quality)
    assert np.std(scores) > 100 * onnx_scorer.PARITY, "these pictures tell nothing apart"


def test_a_transformer_of_another_kind_and_precision_is_exported_in_float32(make_backbone):
    bundle = made_of(make_backbone(), precision="bf16")
    net = CropQuality(bundle, "here")
    crops = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    assert largest_difference(onnx_bytes(net, bundle), net, crops) < 1e-5


@pytest.mark.parametrize("head", [HeadConfig(kind="attention_panel"), HeadConfig(kind="denoise")], ids=str)
def test_an_ensemble_with_heads_is_exported_as_one(make_backbone, head):
    backbone = make_backbone()
    one = made_of(backbone)
    members = []
    for seed in (1, 2):
        learned = QualityModel(backbone, one.prompts, head=head, seed=seed, trainable=TrainableConfig())
        members.append({**one.parameters, **{n: 1.2 * t for n, t in learned.adaptable_parameters({}).items()}})
    bundle = dataclasses.replace(one, parameters=joined(members, [0.25, 0.75]), head=head)
    net = CropQuality(bundle, "here")
    crops = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    assert largest_difference(onnx_bytes(net, bundle), net, crops) < 1e-5
    scorer = Scorer(bundle, "here")
    expected = [float(scorer.predictor(torch.from_numpy(crop[None]))) for crop in crops]
    np.testing.assert_allclose(net(torch.from_numpy(crops)).numpy(), expected, atol=1e-5)


def test_the_file_says_what_it_is_and_nothing_of_this_machine(embedded, exported):
    import onnx

    proto = onnx.load_from_string(exported)
    onnx.checker.check_model(proto)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", onnx_scorer.OPSET)]
    (entered,) = proto.graph.input
    batch, *sides = entered.type.tensor_type.shape.dim
    assert (batch.dim_param, [side.dim_value for side in sides]) == ("batch", [224, 224, 3])
    assert entered.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    about = json.loads(next(p.value for p in proto.metadata_props if p.key == "grmp-iqa"))
    assert about["digest"] == embedded.digest
    assert about["preprocessing"]["grid"] == 2
    assert about["preprocessing"]["view"] == "crops"
    assert b"differentiable.py" not in exported
    assert not any("text" in weight.name for weight in proto.graph.initializer), "the text tower is left out"


def test_a_difference_is_seen(embedded, exported):
    moved = {**embedded.parameters, "calibration_2": torch.tensor([1.0, 0.0])}
    other = dataclasses.replace(embedded, parameters=moved)
    crops = np.stack([scenes.reference(seed, 224, 224) for seed in range(2)])
    assert largest_difference(exported, CropQuality(other, "here"), crops) > onnx_scorer.PARITY


def test_without_the_packages_the_extra_is_named(embedded, exported, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'grmp-iqa\[export\]'"):
        onnx_session(exported)

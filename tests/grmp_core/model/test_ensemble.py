"""Several models in one bundle: the weighted mean of what each says alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from grmp_core.confidence.evidence import Evidence
from grmp_core.continual.gate import Gate
from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, load_predictor, read_bundle, write_bundle
from grmp_core.model.differentiable import ImageQuality
from grmp_core.model.ensemble import WEIGHTS, joined, separated, spread_of, with_member
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.model.scorer import Scorer, untrusted_because
from grmp_core.model.settings import PromptConfig, TrainableConfig
from grmp_core.model.token_statistics import token_statistics
from grmp_core.model.whole_model import read_whole_model, whole_model_bytes
from grmp_core.storage import locate

PROMPTS = PromptConfig(visual_tokens=2)
WEIGHTS_M = (0.2, 0.5, 0.3)


def bundle_of(backbone, parameters: Parameters) -> Bundle:
    return Bundle(
        kind="model", backbone=backbone.config, backbone_sha256=backbone.weights_sha256, prompts=PROMPTS,
        views=ViewConfig(score_grid=2), precision="fp32", parameters=parameters,
    )  # fmt: skip


@pytest.fixture
def members(make_backbone) -> list[Bundle]:
    """They differ in a context and in weights of the image tower."""
    backbone = make_backbone()
    found = []
    for seed in range(3):
        model = QualityModel(backbone, PROMPTS, seed=seed, trainable=TrainableConfig(vision_blocks=1))
        generator = torch.Generator().manual_seed(seed)
        learned = model.adaptable_parameters({}).items()
        parameters = {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in learned}
        found.append(bundle_of(backbone, {**model.prompt_parameters(), **parameters}))
    return found


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)


def test_an_ensemble_scores_the_weighted_mean_and_its_members_spread(members, picture, make_backbone, tmp_path):
    whole = bundle_of(make_backbone(), joined([member.parameters for member in members], WEIGHTS_M))
    write_bundle(locate(tmp_path / "bundle"), whole)
    read = read_bundle(locate(tmp_path / "bundle"))
    assert read.digest == whole.digest
    alone = np.array([Scorer(member, "one").score([picture])[0].quality for member in members])
    assert np.ptp(alone) > 1e-3
    found = Scorer(read, "all").score([picture])[0]
    mean = np.average(alone, weights=WEIGHTS_M)
    assert found.quality == pytest.approx(mean, abs=1e-6)
    assert found.spread == pytest.approx(np.sqrt(np.average((alone - mean) ** 2, weights=WEIGHTS_M)), abs=1e-6)
    assert Scorer(members[0], "one").score([picture])[0].spread is None
    views = torch.from_numpy(Scorer(read, "all").views_of(picture).views_GHW3)
    torch.testing.assert_close(
        load_predictor(read, "all")(views).mean(), torch.tensor(mean, dtype=torch.float32), atol=1e-6, rtol=0
    )
    module = ImageQuality(read, "all")
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    assert float(module(image)) == pytest.approx(mean, abs=1e-5)


def test_one_member_is_the_model_itself(members, picture, make_backbone):
    single = bundle_of(make_backbone(), joined([members[0].parameters], [1.0]))
    found, expected = (Scorer(bundle, "x").score([picture])[0] for bundle in (single, members[0]))
    assert found.quality == pytest.approx(expected.quality, abs=1e-7)
    assert found.spread == 0
    assert spread_of(torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.5])) == pytest.approx(0.3)


def test_tensors_come_apart_as_they_were_joined(members):
    parameters = joined([member.parameters for member in members], WEIGHTS_M)
    for mine, member in zip(separated(parameters), members, strict=True):
        assert mine.keys() == member.parameters.keys()
        assert all(torch.equal(mine[name], tensor) for name, tensor in member.parameters.items())
    assert separated(members[0].parameters) == [members[0].parameters]
    with pytest.raises(InputError, match="belongs to no member"):
        separated({WEIGHTS: torch.ones(1), "ensemble.1.x": torch.ones(1)})


def test_a_members_held_out_predictions_are_not_the_ensembles(members, picture, make_backbone):
    predicted, statistics = np.linspace(0.2, 0.8, 30), np.random.default_rng(0).normal(5, 0.01, (30, 96))
    names = tuple(map(str, range(30)))
    evidence = Evidence.of(predicted, predicted + 0.1, statistics, names, early_size=48, deep=False)
    whole = bundle_of(make_backbone(), joined([member.parameters for member in members], WEIGHTS_M))
    alone, together = (dataclasses.replace(bundle, evidence=evidence) for bundle in (members[0], whole))
    assert untrusted_because(alone) is None
    assert "ensemble" in untrusted_because(together)
    assert Scorer(alone, "one").score([picture])[0].quality_low is not None
    found = Scorer(together, "all").score([picture])[0]
    assert (found.quality_low, found.unlike, found.error) == (None, None, None)
    assert found.spread > 0


def test_an_ensemble_in_one_file_is_the_same(members, picture, make_backbone, tmp_path):
    whole = bundle_of(make_backbone(), joined([member.parameters for member in members], WEIGHTS_M))
    (tmp_path / "all.safetensors").write_bytes(whole_model_bytes(whole, load_backbone(whole.backbone)))
    read, backbone = read_whole_model(locate(tmp_path / "all.safetensors"))
    assert read.digest == whole.digest
    assert Scorer(read, "all", backbone=backbone).score([picture]) == Scorer(whole, "all").score([picture])


def gated(members, make_backbone, deep: bool) -> Bundle:
    """Three members, whose gate has a centre each."""
    size = 2 * 48  # statistics of the tiny tower, whose width is 48
    gate = Gate(
        centres_KE=torch.nn.functional.normalize(torch.randn(1, size // 2, generator=torch.Generator().manual_seed(0))),
        owner_K=torch.zeros(1, dtype=torch.long),
        sharpness=20.0,
        early_size=size // 2,
        deep=deep,
    )
    parameters = with_member(None, members[0].parameters, gate)
    for seed, member in enumerate(members[1:], start=1):
        centre = torch.randn(1, size // 2, generator=torch.Generator().manual_seed(seed))
        gate = gate.extended(torch.nn.functional.normalize(centre))
        parameters = with_member(parameters, member.parameters, gate)
    return bundle_of(make_backbone(), parameters)


@pytest.mark.parametrize("deep", [False, True])
def test_a_gate_weighs_members_by_the_backbone_s_own_look(members, picture, make_backbone, tmp_path, deep):
    whole = gated(members, make_backbone, deep)
    write_bundle(locate(tmp_path / "bundle"), whole)
    scorer = Scorer(read_bundle(locate(tmp_path / "bundle")), "one")
    dark = (picture // 8).astype(np.uint8)
    found = []
    for pixels in (picture, dark):
        alone = np.array([Scorer(member, "one").score([pixels])[0].quality for member in members])
        views = torch.from_numpy(scorer.views_of(pixels).views_GHW3)
        own = QualityModel(make_backbone(), PROMPTS)
        looks = token_statistics(own.vision_tower, own.embed(views), deep=deep).mean(dim=0, keepdim=True)
        weights = Gate.from_parameters(whole.parameters).weights(looks)[0].numpy()
        score = scorer.score([pixels])[0]
        assert score.quality == pytest.approx(weights @ alone, abs=1e-5)
        assert score.spread == pytest.approx(np.sqrt(weights @ (alone - weights @ alone) ** 2), abs=1e-5)
        assert scorer.predictor(views).shape == (len(views),)
        found.append(weights)
    assert np.abs(found[0] - found[1]).max() > 1e-3, "the two pictures have the same weights: the test shows nothing"


def test_a_gated_model_is_not_differentiable_and_says_so(members, make_backbone):
    with pytest.raises(InputError, match="by a gate, which is not differentiable"):
        ImageQuality(gated(members, make_backbone, False), "b")

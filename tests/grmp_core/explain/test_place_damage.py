"""The detector of damaged places, with random weights, and the one that the package ships."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from grmp_core.distortions import get
from grmp_core.explain.damage_types import TypeDetector
from grmp_core.explain.explanation import Explainer
from grmp_core.explain.place_damage import PlaceDetector, PlaceNetwork, detector_of, look_at_crops
from grmp_core.explain.seams import seam_statistics, tone_statistics
from grmp_core.explain.settings import MapConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.differentiable import unadapted
from grmp_core.model.features import image_features, normalize
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.procedural import scenes

TOKENS, PIXELS = 8, 5


@pytest.fixture
def detector() -> PlaceDetector:
    torch.manual_seed(0)
    network = PlaceNetwork(torch.zeros(TOKENS + PIXELS + 2), torch.ones(TOKENS + PIXELS + 2), TOKENS).eval()
    return PlaceDetector(weights_sha256="00" * 32, network=network, temperature=1.5, bias=0.25)


def seen(crops: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(crops, TOKENS + PIXELS)), rng.random((crops, 2))


def test_crops_are_compared_and_their_order_does_not_count(detector):
    statistics, centres = seen(7)
    found = detector.log_undamaged(statistics, centres)
    assert np.all(found < 0)
    order = np.random.default_rng(1).permutation(7)
    np.testing.assert_allclose(detector.log_undamaged(statistics[order], centres[order]), found[order], atol=1e-5)
    fewer = detector.log_undamaged(statistics[:4], centres[:4])
    assert not np.allclose(fewer, found[:4], atol=1e-3), "a crop is judged as if the others were not there"


def test_temperature_and_bias_make_log_odds(detector):
    statistics, centres = seen(5)

    def odds(log_p: np.ndarray) -> np.ndarray:
        return np.log1p(-np.exp(log_p)) - log_p

    soft = dataclasses.replace(detector, temperature=3.0).log_undamaged(statistics, centres)
    plain = odds(detector.log_undamaged(statistics, centres)) - 0.25
    np.testing.assert_allclose((odds(soft) - 0.25) * 2, plain, atol=1e-5)


def test_a_file_holds_all_of_a_detector(detector, tmp_path: Path):
    file = tmp_path / "places.safetensors"
    detector.write(file)
    again = PlaceDetector.read(file)
    for name in ("weights_sha256", "temperature", "bias"):
        assert getattr(again, name) == getattr(detector, name)
    statistics, centres = seen(6)
    found, expected = (d.log_undamaged(statistics, centres) for d in (again, detector))
    np.testing.assert_allclose(found, expected, atol=0.01)  # half precision


def test_looks_at_crops_have_the_moments_of_the_tokens(make_backbone):
    backbone = make_backbone()
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    looks = look_at_crops(backbone, [crops[:2], crops[2:]])
    torch.testing.assert_close(looks.unit_CE, image_features(backbone, [crops]).unit_NE, atol=1e-5, rtol=0)
    tower = open_vision_tower(backbone.clip)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    with torch.inference_mode():
        early = tower.embed(normalize(torch.from_numpy(crops), mean, std))
        late = tower.run(early, None, 0).numpy()
    early = early.numpy()
    moments = [early.mean(axis=1), early.std(axis=1, ddof=1), late.mean(axis=1), late.std(axis=1, ddof=1)]
    expected = np.concatenate([*moments, seam_statistics(crops), tone_statistics(crops)], axis=1)
    assert looks.num_of_tokens == sum(part.shape[1] for part in moments)
    np.testing.assert_allclose(looks.statistics_CS, expected, atol=1e-5)


def test_a_tower_in_one_piece_has_no_statistics_of_tokens(make_backbone):
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    looks = look_at_crops(make_backbone("tiny-resnet"), [crops])
    assert looks.num_of_tokens == 0
    np.testing.assert_array_equal(looks.statistics_CS[:, :90], seam_statistics(crops))


def test_other_weights_and_another_normalization_have_no_detector(make_backbone):
    own = load_backbone(BackboneConfig()).weights_sha256
    assert detector_of(BackboneConfig(), own) is not None
    assert detector_of(BackboneConfig(), "00" * 32) is None
    assert detector_of(BackboneConfig(normalization="imagenet"), own) is None
    assert detector_of(BackboneConfig(name="ViT-B-16", pretrained="openai"), own) is None


def test_an_explainer_hands_the_detector_statistics_and_centres(make_backbone):
    backbone = make_backbone()
    image = scenes.reference(7, 80, 100)
    numbers = look_at_crops(backbone, [image[None, :32, :32].copy()])
    torch.manual_seed(0)
    size = numbers.statistics_CS.shape[1] + 2
    network = PlaceNetwork(torch.zeros(size), torch.ones(size), numbers.num_of_tokens).eval()
    places = PlaceDetector(weights_sha256=backbone.weights_sha256, network=network, temperature=1.0, bias=0.0)
    scorer = Scorer(unadapted(backbone), "tiny", backbone=backbone, batch_size=2)
    facts = Explainer(scorer, TypeDetector(backbone), places).explain(image).facts["map"]
    assert facts["crops_compared"]
    coarse = [crop for crop in facts["crops"] if not crop["fine"]]
    corners = [(crop["top_px"], crop["left_px"]) for crop in coarse]
    crops = np.stack([image[top : top + 32, left : left + 32] for top, left in corners])
    centres = (np.array(corners) + 16) / (80, 100)
    expected = places.log_undamaged(look_at_crops(backbone, [crops]).statistics_CS, centres)
    np.testing.assert_allclose([crop["undamaged"] for crop in coarse], np.exp(expected), atol=1e-3)


def test_shipped_detector_belongs_to_the_shipped_weights_and_finds_a_planted_quarter():
    backbone = load_backbone(BackboneConfig())
    places = detector_of(backbone.config, backbone.weights_sha256)
    assert places is not None
    scorer = Scorer(unadapted(backbone), "backbone", backbone=backbone)
    explainer = Explainer(scorer, TypeDetector(backbone), places, crops=MapConfig(second_looks=0))
    image = scenes.reference(3, 512, 512)
    for name in ("darken", "white_noise"):
        damaged = image.copy()
        damaged[256:, :256] = get(name)(image, 5.0, np.random.default_rng(0))[256:, :256]
        found = explainer.explain(damaged).facts["map"]["most_damaged"]
        assert (found["row_px"] >= 256, found["column_px"] < 256) == (True, True), (name, found)

"""The package's weights: they fit the architecture, and rank damage without a label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest

from grmp_core.confidence.domain import domain_file, domain_of
from grmp_core.evaluation.metrics import srcc
from grmp_core.labels.human_means import quality_of
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.features import image_features
from grmp_core.model.nano_trunk import MODEL_CONFIG
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.model.zero_shot import zero_shot_quality
from grmp_core.nano.crops import apply_parts
from grmp_core.nano.sentences import HELD_OUT_TYPES
from grmp_core.procedural.scenes import reference


@pytest.fixture(scope="module")
def embedded() -> Backbone:
    return load_backbone(BackboneConfig())


def test_open_clips_configuration_is_the_architecture(embedded):
    assert json.loads(json.dumps(open_clip.get_model_config("grmp-nano"))) == MODEL_CONFIG
    assert embedded.image_size_px == 224


@pytest.mark.parametrize("names", [("lens_blur", "white_noise", "jpeg", "darken"), HELD_OUT_TYPES])
def test_stronger_damage_is_worse_for_types_of_training_and_for_unseen_ones(embedded, names):
    rng, levels = np.random.default_rng(0), (1.0, 3.0, 5.0)
    damages = [(seed, name, level) for seed in range(9000, 9003) for name in names for level in levels]
    pictures = np.stack([apply_parts(reference(seed, 224, 224), [(name, level)], rng) for seed, name, level in damages])
    found = zero_shot_quality(embedded, image_features(embedded, [pictures]).unit_NE)
    assert srcc(found, [quality_of(name, level) for _, name, level in damages]) > 0.3


def test_the_card_has_every_look_at_a_target():
    root = Path(__file__).resolve().parents[3]
    card = (root / "grmp_core" / "assets" / "grmp-nano.md").read_text()
    for line in (root / "docs" / "ledger.jsonl").read_text().splitlines():
        look = json.loads(line)
        numbers = ", ".join(f"{part} {value:.3f}".replace(" 0.", " .") for part, value in look["srcc"].items())
        left_out = look["left_out_as_neighbours_of_training"]
        row = f"| {look['time'][:10]} | {look['target']} | {look['photos']} | {left_out} | {numbers} | "
        assert f"{row}{look['weights_sha256'][:8]} |" in card


def test_the_shipped_domain_is_that_of_the_shipped_weights(embedded):
    """Without it images that are unlike are found by the labelled ones alone: `grmp train_backbone domain`."""
    assert domain_of(EMBEDDED, embedded.weights_sha256) is not None
    assert domain_of(EMBEDDED, "00" * 32) is None
    assert domain_file(EMBEDDED).stat().st_size <= 200_000

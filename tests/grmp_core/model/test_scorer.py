"""Scoring files: what is held in memory, and what one file may cost the others."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from grmp_core.errors import ImageError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model import scorer as scoring
from grmp_core.model.bundle import Bundle
from grmp_core.model.prompts import PromptConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import Scorer
from tests.grmp_core.imaging import pictures

PROMPTS = PromptConfig(visual_tokens=2)


@pytest.fixture
def scorer(make_backbone) -> Scorer:
    backbone = make_backbone()
    bundle = Bundle(
        kind="prompts",
        backbone=backbone.config,
        backbone_sha256=backbone.weights_sha256,
        prompts=PROMPTS,
        views=ViewConfig(score_grid=2),
        precision="fp32",
        parameters=QualityModel(backbone, PROMPTS).prompt_parameters(),
    )
    return Scorer(bundle, "test", backbone=backbone, batch_size=4)


def test_one_image_is_decoded_at_a_time_and_none_is_kept(scorer, monkeypatch):
    decode, decoded = scoring.decode_image, []

    def watched(source, limits):
        assert not [image for image in decoded if image() is not None]
        image = decode(source, limits)
        decoded.append(weakref.ref(image))
        return image

    monkeypatch.setattr(scoring, "decode_image", watched)
    files = (pictures.encoded(pictures.photo(50, 60 + i), "PNG") for i in range(5))
    assert len(scorer.score(files)) == 5
    assert len(decoded) == 5
    assert not [image for image in decoded if image() is not None]


def test_files_and_their_pixels_get_the_same_scores(scorer):
    photos = [pictures.photo(50, 60), pictures.photo(20, 90)]
    assert scorer.score([pictures.encoded(photo, "PNG") for photo in photos]) == scorer.score_images(photos)


def test_a_thin_strip_costs_its_own_row(scorer, monkeypatch):
    photo = pictures.photo(50, 60)
    strip = np.zeros((2, 600_000, 3), np.uint8)
    for scores in (
        scorer.score([pictures.encoded(strip, "PNG"), pictures.encoded(photo, "PNG"), ImageError("gone")]),
        scorer.score_images([strip, photo, ImageError("gone")]),
    ):
        assert "too thin: 600000x2" in scores[0].error
        assert 0 <= scores[1].quality <= 1
        assert scores[2].error == "gone"


def test_doubts_about_samples_come_with_the_score(scorer):
    dark = np.arange(50 * 60).reshape(50, 60, 1) % 1024
    noted, plain = scorer.score([pictures.png_of(dark, 0, 16), pictures.encoded(pictures.photo(50, 60), "PNG")])
    assert noted.notes == ("samples use only 10 of 16 bits; scored as 16-bit",)
    assert 0 <= noted.quality <= 1
    assert plain.notes == ()

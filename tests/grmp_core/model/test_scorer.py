"""An image's score is its own: whatever is scored with it, and whatever becomes of that."""

from __future__ import annotations

import dataclasses
import weakref

import numpy as np
import pytest
import torch

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, read_image
from grmp_core.imaging.views import ViewConfig
from grmp_core.model import scorer as scorer_module
from grmp_core.model.bundle import Bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import PromptConfig
from tests.grmp_core.imaging import pictures, profiles

PROMPTS = PromptConfig(visual_tokens=2)


@pytest.fixture(scope="module")
def bundle(make_backbone) -> Bundle:
    backbone = make_backbone()
    digest, config = backbone.weights_sha256, backbone.config
    return Bundle(
        kind="prompts", backbone=config, backbone_sha256=digest, prompts=PROMPTS, views=ViewConfig(score_grid=3),
        precision="fp32", parameters=QualityModel(backbone, PROMPTS).prompt_parameters(),
    )  # fmt: skip


@pytest.fixture
def scorer(bundle) -> Scorer:
    return Scorer(bundle, "test")


def photos(count: int) -> list[np.ndarray]:
    return [pictures.photo(48, 48 + i % 40) for i in range(count)]


def png(image: np.ndarray) -> bytes:
    return pictures.encoded(image, "PNG")


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_a_score_does_not_depend_on_neighbours_to_the_last_bit(bundle, grid):
    """In a batch of another size, or at another place of it, torch's kernels round otherwise."""
    scorer = Scorer(bundle, "test", score_grid=grid)
    data = [png(image) for image in photos(101)]
    alone = [scorer.score([image])[0].quality for image in data]
    together = [score.quality for score in scorer.score(data)]
    assert together == alone
    broken = [source for image in data for source in (image, b"", ImageError("gone"), image[:100])]
    among_broken = scorer.score(broken)
    assert [score.quality for score in among_broken[::4]] == alone
    assert all(score.error for i, score in enumerate(among_broken) if i % 4)
    assert [score.quality for score in scorer.score(data[::-1])] == alone[::-1]


@pytest.mark.parametrize("batch_size", [1, 4, 9, 100])
def test_no_forward_pass_has_more_views_than_the_batch_size(bundle, monkeypatch, batch_size):
    scorer = Scorer(bundle, "test", batch_size=batch_size)
    predict, sizes = scorer.predictor, []

    def count(views):
        sizes.append(len(views))
        return predict(views)

    monkeypatch.setattr(scorer, "predictor", count)
    count.model = predict.model
    whole = [predict(torch.from_numpy(scorer.views_of(image).views_GHW3)) for image in photos(3)]
    scores = scorer.score(photos(3))
    assert sum(sizes) == 27
    assert max(sizes) == min(batch_size, 9)
    assert [score.quality for score in scores] == pytest.approx([float(views.mean()) for views in whole], abs=1e-6)


def test_one_image_is_decoded_at_a_time_and_none_is_kept(scorer, monkeypatch):
    decode, decoded = scorer_module.decode_image, []

    def watched(source, limits):
        assert not [image for image in decoded if image() is not None]
        image = decode(source, limits)
        decoded.append(weakref.ref(image))
        return image

    monkeypatch.setattr(scorer_module, "decode_image", watched)
    files = (pictures.encoded(pictures.photo(50, 60 + i), "PNG") for i in range(5))
    assert len(scorer.score(files)) == 5
    assert len(decoded) == 5
    assert not [image for image in decoded if image() is not None]


def test_files_and_their_pixels_get_the_same_scores(scorer):
    photos = [pictures.photo(50, 60), pictures.photo(20, 90)]
    assert scorer.score([pictures.encoded(photo, "PNG") for photo in photos]) == scorer.score(photos)


def test_a_thin_strip_costs_its_own_row(scorer, monkeypatch):
    photo = pictures.photo(50, 60)
    strip = np.zeros((2, 600_000, 3), np.uint8)
    for scores in (
        scorer.score([pictures.encoded(strip, "PNG"), pictures.encoded(photo, "PNG"), ImageError("gone")]),
        scorer.score([strip, photo, ImageError("gone")]),
    ):
        assert "too thin: 600000x2" in scores[0].error
        assert 0 <= scores[1].quality <= 1
        assert scores[2].error == "gone"


def test_colour_profiles_are_applied_where_the_bundle_says_so_whatever_the_configuration_says(bundle):
    photo = pictures.photo(50, 60)
    data = pictures.encoded(photo, "PNG", icc_profile=profiles.rgb_profile(profiles.P3))
    shown = read_image(data)
    assert (shown != photo).any()
    for applied, pixels in ((True, shown), (False, photo)):
        noted = dataclasses.replace(bundle, colour_profiles=applied)
        limits = ImageLimits(colour_profiles=not applied)
        assert Scorer(noted, "test", limits=limits).score([data]) == Scorer(noted, "test").score([pixels])


def test_doubts_about_samples_come_with_the_score(scorer):
    dark = np.arange(50 * 60).reshape(50, 60, 1) % 1024
    noted, plain = scorer.score([pictures.png_of(dark, 0, 16), pictures.encoded(pictures.photo(50, 60), "PNG")])
    assert noted.notes == ("samples use only 10 of 16 bits; scored as 16-bit",)
    assert 0 <= noted.quality <= 1
    assert plain.notes == ()


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to decode\nframe 0"), AttributeError("x"), TypeError(), MemoryError()]
)
def test_whatever_a_decoder_raises_costs_one_row(bundle, monkeypatch, error):
    good = png(photos(1)[0])
    decode_image = scorer_module.decode_image

    def fail(source, limits):
        if source == b"bad":
            raise error
        return decode_image(source, limits)

    monkeypatch.setattr(scorer_module, "decode_image", fail)
    scorer = Scorer(bundle, "test")
    first, bad, last = scorer.score([good, b"bad", good])
    assert first == last == scorer.score([good])[0]
    assert bad.error.startswith(f"cannot be decoded ({type(error).__name__}: ")
    assert "\n" not in bad.error
    assert np.isnan(bad.quality)

"""Bundles: what is written is what is read, and nothing else is taken."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from grmp_core.confidence.evidence import Evidence
from grmp_core.confidence.intervals import interval_of, margin_of
from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import Bundle, load_predictor, read_bundle, with_weights_at, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import Scorer, ScoreTrust, untrusted_because
from grmp_core.model.settings import BackboneConfig, PromptConfig, TrainableConfig
from grmp_core.model.token_statistics import token_statistics
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate

PROMPTS = PromptConfig(visual_tokens=5, prompt_norm=True)


@pytest.fixture
def written(make_backbone, tmp_path):
    backbone = make_backbone()
    model = QualityModel(backbone, PROMPTS, trainable=TrainableConfig(vision_blocks=1))
    learned = {n: t + 0.01 * torch.randn_like(t) for n, t in model.adaptable_parameters({}).items()}
    bundle = Bundle(
        kind="model",
        backbone=backbone.config,
        backbone_sha256=backbone.weights_sha256,
        prompts=PROMPTS,
        views=ViewConfig(score_grid=2),
        precision="fp32",
        parameters={**model.prompt_parameters(), **learned},
        score_range=ScoreRange(mos_min=0.0, mos_max=100.0, higher_is_better=True),
        metrics={"val_srcc": 0.5},
        provenance={"lambda": 5.0},
    )
    place = locate(tmp_path / "bundle")
    write_bundle(place, bundle)
    return place, bundle


def test_read_gives_what_was_written_bit_for_bit(written):
    place, bundle = written
    again = read_bundle(place)
    assert again.parameters.keys() == bundle.parameters.keys()
    assert all(torch.equal(again.parameters[n], bundle.parameters[n]) for n in bundle.parameters)
    for name in ("kind", "backbone", "prompts", "views", "precision", "score_range", "metrics", "provenance"):
        assert getattr(again, name) == getattr(bundle, name), name


def test_a_bundle_from_before_the_prompts_norm_has_none(written, tmp_path):
    place, bundle = written
    plain = PromptConfig(visual_tokens=5)
    parameters = {n: t for n, t in bundle.parameters.items() if ".norm." not in n}
    write_bundle(place, dataclasses.replace(bundle, prompts=plain, parameters=parameters))
    content = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    edit(tmp_path / "bundle", prompts={n: v for n, v in content["prompts"].items() if n != "prompt_norm"})
    assert read_bundle(place).prompts == plain
    assert 0 < Scorer(read_bundle(place), place.uri).score([np.zeros((40, 40, 3), np.uint8)])[0].quality < 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_bundle_notes_colour_profiles_and_one_without_a_note_had_none(written, tmp_path, applied):
    place, bundle = written
    write_bundle(place, dataclasses.replace(bundle, colour_profiles=applied))
    assert read_bundle(place).colour_profiles == applied
    content = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    del content["colour_profiles"]
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(content))
    assert not read_bundle(place).colour_profiles


def test_the_digest_follows_the_learned_model_and_nothing_else(written):
    place, bundle = written
    assert read_bundle(place).digest == bundle.digest
    elsewhere = dataclasses.replace(bundle.backbone, checkpoint="/elsewhere/weights.safetensors")
    same = [{"metrics": {}}, {"provenance": {"note": 1}}, {"backbone": elsewhere}, {"views": ViewConfig(score_grid=1)}]
    assert all(dataclasses.replace(bundle, **change).digest == bundle.digest for change in same)
    name = next(iter(bundle.parameters))
    other = [
        {"backbone_sha256": "0" * 64},
        {"prompts": PromptConfig(visual_tokens=5, context_tokens=7)},
        {"backbone": dataclasses.replace(bundle.backbone, normalization="imagenet")},
        {"parameters": {**bundle.parameters, name: torch.nextafter(bundle.parameters[name], torch.tensor(9.0))}},
        {"parameters": {**bundle.parameters, name: bundle.parameters[name].unsqueeze(0)}},
        {"parameters": {(f"{key}x" if key == name else key): value for key, value in bundle.parameters.items()}},
    ]
    assert len({bundle.digest, *(dataclasses.replace(bundle, **change).digest for change in other)}) == 7


def test_the_digest_survives_a_prompt_setting_that_is_added_later(written):
    _, bundle = written
    later = dataclasses.make_dataclass("Later", [("extra", int, 3)], bases=(PromptConfig,), frozen=True, kw_only=True)
    same = dataclasses.asdict(bundle.prompts)
    assert dataclasses.replace(bundle, prompts=later(**same)).digest == bundle.digest
    assert dataclasses.replace(bundle, prompts=later(**same, extra=4)).digest != bundle.digest


def test_scores_are_the_same_bit_for_bit(written):
    place, bundle = written
    views = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(load_predictor(bundle, "memory")(views), load_predictor(read_bundle(place), place.uri)(views))


def test_a_measure_that_is_not_defined_is_null_in_the_file(written):
    place, bundle = written
    write_bundle(place, dataclasses.replace(bundle, metrics={"val_srcc": math.nan, "srcc": 0.5}))
    text = (place / "bundle.json").read_bytes().decode()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {"val_srcc": None, "srcc": 0.5}
    again = read_bundle(place).metrics
    assert math.isnan(again["val_srcc"])
    assert again["srcc"] == 0.5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_image_s_score_depends_on_no_other_image(written, precision):
    """To the last bit, whatever is scored with it, before it, or fails beside it."""
    place, bundle = written
    scorer = Scorer(dataclasses.replace(bundle, precision=precision), place.uri, batch_size=16)
    rng = np.random.default_rng(0)
    image, *others = rng.integers(0, 256, (12, 40, 48, 3), np.uint8)
    (alone,) = scorer.score([image])
    for count in (1, 2, 3, 7, 11):
        broken = [ImageError("torn")] * (count % 3)
        assert scorer.score([*others[:count], *broken, image])[-1] == alone
        assert scorer.score([image, *broken, *others[:count]])[0] == alone
    assert {s.quality for s in scorer.score([image] * 6)} == {alone.quality}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "model.safetensors").write_bytes(b"x" * 100), "changed after it was written"),
        (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda d: (d / "bundle.json").unlink(), "bundle.json is missing"),
        (lambda d: (d / "bundle.json").write_text("{"), "not JSON"),
        (lambda d: (d / "bundle.json").write_text('{"a": 1}'), "another program"),
        (lambda d: edit(d, version=99), "format version 99"),
        (lambda d: edit(d, prompts={"unheard": 1}), "damaged"),
    ],
)
def test_damaged_and_foreign_bundles_are_refused_with_the_reason(written, tmp_path, damage, message):
    damage(tmp_path / "bundle")
    with pytest.raises(InputError, match=message):
        read_bundle(written[0])


def edit(folder, **changes):
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_backbone_is_refused(written, make_backbone):
    with pytest.raises(InputError, match="another backbone"):
        load_predictor(written[1], "here", make_backbone(seed=7))


def test_a_bad_image_costs_its_own_row_only(written, tmp_path):
    import cv2
    import numpy as np

    good = tmp_path / "good.png"
    cv2.imwrite(str(good), np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    (tmp_path / "empty.jpg").write_bytes(b"")
    scorer = Scorer(written[1], "memory", limits=ImageLimits(max_pixels=10_000))
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.zeros((200, 200, 3), dtype=np.uint8))
    first, empty, too_large, again = scorer.score([good, tmp_path / "empty.jpg", str(large), good.read_bytes()])
    assert 0 <= first.quality <= 1
    assert first.mos_scale_score == pytest.approx(100 * first.quality)
    assert first == again
    assert empty.error
    assert too_large.error
    assert empty.quality != empty.quality  # NaN


def test_weights_that_moved_are_taken_from_where_they_are_said_to_be(written, checkpoints):
    _, bundle = written
    here, others = (BackboneConfig(checkpoint=checkpoints("tiny-quickgelu", seed)) for seed in (0, 1))
    gone = dataclasses.replace(bundle, backbone=dataclasses.replace(bundle.backbone, checkpoint="/gone/w.safetensors"))
    assert with_weights_at(gone, here, "it").backbone == bundle.backbone
    assert with_weights_at(gone, BackboneConfig(), "it") == gone
    assert with_weights_at(bundle, others, "it") == bundle  # its own are where they were
    with pytest.raises(InputError, match="bundle it was made with another backbone"):
        with_weights_at(gone, others, "it")


def judged(bundle: Bundle, *, deep: bool) -> Bundle:
    """The bundle with evidence from pictures of noise."""
    rng = np.random.default_rng(0)
    predicted, statistics = rng.uniform(0.2, 0.8, 30), rng.normal(5, 0.01, (30, 96))
    quality = np.clip(predicted + 0.1 * rng.normal(size=30), 0, 1)
    names = tuple(map(str, range(30)))
    evidence = Evidence.of(predicted, quality, statistics, names, early_size=48, deep=deep)
    return dataclasses.replace(bundle, evidence=evidence)


def test_evidence_lies_in_a_file_of_its_own_and_is_held_to_its_hash(written, tmp_path):
    place, bundle = written
    assert read_bundle(place).evidence is None
    assert "evidence" not in (tmp_path / "bundle" / "bundle.json").read_text()
    write_bundle(place, judged(bundle, deep=False))
    again = read_bundle(place)
    np.testing.assert_array_equal(again.evidence.predicted_N, judged(bundle, deep=False).evidence.predicted_N)
    assert again.digest == bundle.digest
    (tmp_path / "bundle" / "evidence.safetensors").unlink()
    with pytest.raises(InputError, match="is missing or does not match its hash"):
        read_bundle(place)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_score_has_the_interval_that_its_evidence_gives_and_stays_the_same(written, deep, higher_is_better):
    _, bundle = written
    scale = ScoreRange(mos_min=10.0, mos_max=60.0, higher_is_better=higher_is_better)
    bundle = dataclasses.replace(bundle, score_range=scale)
    picture = np.random.default_rng(1).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    [before] = Scorer(bundle, "memory").score([picture])
    assert (before.quality_low, before.score_high, before.unlike) == (None, None, None)
    given = judged(bundle, deep=deep)
    [score] = Scorer(given, "memory", trust=ScoreTrust(coverage=0.8)).score([picture])
    assert score.quality == before.quality
    margin = margin_of(given.evidence.predicted_N, given.evidence.quality_N, 0.8)
    assert (score.quality_low, score.quality_high) == interval_of(score.quality, margin)
    ends = sorted(float(scale.to_mos(end)) for end in (score.quality_low, score.quality_high))
    assert [score.score_low, score.score_high] == pytest.approx(ends)
    assert score.unlike is True  # no picture has statistics that are all 5


def test_another_grid_has_no_interval_and_prompts_have_none(written):
    _, bundle = written
    given = judged(bundle, deep=False)
    assert Scorer(given, "memory", score_grid=2).margin is not None
    assert Scorer(given, "memory", score_grid=3).margin is None
    assert "measured with 2" in untrusted_because(given, 3)
    assert "adapt it again" in untrusted_because(bundle)
    assert "not adapted" in untrusted_because(dataclasses.replace(given, kind="prompts"))


def test_statistics_are_of_the_backbone_before_adaptation(written, make_backbone):
    """Statistics that tell unlike images come from the backbone before adaptation."""
    _, bundle = written
    own = QualityModel(make_backbone(), PROMPTS)
    views = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    expected = token_statistics(own.vision_tower, own.embed(views), deep=True)
    quality, found = load_predictor(bundle, "memory", deep=True).look(views)
    torch.testing.assert_close(found, expected)
    assert torch.equal(quality, load_predictor(bundle, "memory")(views))

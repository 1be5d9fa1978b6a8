"""An explanation on a tiny backbone: the rule for tools, and that sentences say facts only."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import percentileofscore

from grmp_core.distortions import REGISTRY, get
from grmp_core.errors import InputError
from grmp_core.explain.damage_types import TypeDetector
from grmp_core.explain.explanation import Explainer
from grmp_core.explain.measurements import Measurements, measure
from grmp_core.explain.references import ReferenceMeasures
from grmp_core.explain.remedies import REMEDIES
from grmp_core.explain.sentences import sentences_of
from grmp_core.explain.settings import MapConfig, ReasonConfig
from grmp_core.explain.tool_choice import TOOLS, CleanRanges, choose_tool, is_unusual, read_ranges
from grmp_core.model.differentiable import unadapted
from grmp_core.model.ensemble import joined
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import HeadConfig
from grmp_core.procedural import scenes
from grmp_core.strict_json import json_text

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.fixture(scope="module")
def explainer(make_backbone) -> Explainer:
    scorer = Scorer(unadapted(make_backbone()), "tiny", backbone=make_backbone())
    reasons = ReasonConfig(undo_above=0.0)
    return Explainer(scorer, TypeDetector(make_backbone()), crops=MapConfig(disagreement=1e-6), reasons=reasons)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return scenes.reference(7, 80, 100)


def numbers_in(facts: Any) -> Iterator[float]:
    """All numbers of a JSON value."""
    if isinstance(facts, dict):
        facts = list(facts.values())
    if isinstance(facts, list):
        for fact in facts:
            yield from numbers_in(fact)
    elif isinstance(facts, int | float) and not isinstance(facts, bool):
        yield abs(float(facts))


@pytest.mark.parametrize("name", ["gaussian_blur", "white_noise", "jpeg", "darken"])
@pytest.mark.parametrize("with_reference", [False, True])
def test_every_number_of_a_sentence_is_a_fact(explainer, scene, name: str, with_reference: bool):
    damaged = get(name)(scene, 5.0, np.random.default_rng(0))
    facts = json.loads(json_text(explainer.explain(damaged, scene if with_reference else None).facts))
    sentences = facts.pop("sentences")
    known = set(numbers_in(facts))
    assert len(sentences) >= 5
    for sentence in sentences:
        for number in NUMBER.findall(sentence):
            assert float(number) in known, sentence
    assert facts["reference"] is None or with_reference
    assert any("reference" in sentence for sentence in sentences) == with_reference


def test_interval_and_refusal_are_told_where_the_model_has_them(explainer, scene):
    facts = explainer.explain(scene).facts
    assert (facts["quality_low"], facts["quality_high"], facts["unlike"]) == (None, None, None)
    known = facts | {"quality_low": 0.25, "quality_high": 0.75, "unlike": True}
    added = [sentence for sentence in sentences_of(known) if sentence not in facts["sentences"]]
    assert added == [
        "The interval of the quality is 0.25 to 0.75.",
        "The image is unlike those that the model knows: do not rely on its score.",
    ]


def test_the_estimator_of_the_probable_damage_is_heard_where_it_has_a_value(explainer, scene):
    facts = explainer.explain(scene).facts

    def told(value: float | None, confirms: bool | None) -> list[str]:
        told = {"estimator": "noise_sigma", "estimator_value": value, "estimator_confirms": confirms}
        return [s for s in sentences_of(facts | {"tool": facts["tool"] | told}) if "confirm" in s]

    assert told(12.5, True) == ["The noise sigma confirms the damage that is likeliest."]
    assert told(12.5, False) == ["The noise sigma, 12.5, does not confirm the damage that is likeliest."]
    assert told(None, None) == []


def test_a_number_that_is_no_fact_would_be_found(explainer, scene):
    facts = explainer.explain(scene).facts
    assert 0.123456 not in set(numbers_in({k: v for k, v in facts.items() if k != "sentences"}))
    assert NUMBER.findall("row 14, 0.5 of jpeg2000 (0.25); 3 crops, 1e-05.") == ["14", "0.5", "0.25", "3", "1e-05"]


def test_facts_agree_with_the_score_and_the_map(explainer, scene):
    found = explainer.explain(scene)
    facts = found.facts
    assert facts["quality"] == pytest.approx(explainer.scorer.score([scene])[0].quality, abs=5e-4)
    assert sum(facts["groups"].values()) == pytest.approx(1, abs=0.01)
    assert len(facts["types"]) == 3
    assert {one["group"] for one in facts["undone"]} <= set(REMEDIES)
    assert facts["map"]["looked_again"] == found.quality_map.looked_again > 0
    for one in facts["undone"]:
        assert one["gain"] == pytest.approx(one["after"] - one["before"], abs=2e-3)
    cells = np.array(facts["map"]["quality_cells"])
    assert cells.min() == facts["map"]["lowest"]["quality"]


def test_one_pass_of_the_tower_gives_what_two_give(explainer, scene):
    crops = np.stack([scene[:32, :32], scene[40:72, 60:92]])
    one = explainer.look(crops)
    assert explainer._same_features
    explainer._same_features = False
    try:
        two = explainer.look(crops)
    finally:
        explainer._same_features = True
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("kind", ["head", "ensemble"])
def test_crops_have_the_models_own_quality_where_it_has_more_than_pooled_features(make_backbone, scene, kind: str):
    plain, head = unadapted(make_backbone()), HeadConfig(kind="attention_panel")
    if kind == "head":
        bundle = dataclasses.replace(plain, head=head)
    else:
        bundle = dataclasses.replace(plain, parameters=joined([plain.parameters, plain.parameters], [0.5, 0.5]))
    scorer = Scorer(bundle, "tiny", backbone=make_backbone())
    crops = np.stack([scene[:32, :32], scene[40:72, 60:92]])
    found_C2 = Explainer(scorer, TypeDetector(make_backbone())).look(crops)
    np.testing.assert_allclose(found_C2[:, 0], scorer.predictor(torch.from_numpy(crops)).numpy(), atol=1e-6)


def test_reference_of_another_size_is_refused(explainer, scene):
    with pytest.raises(InputError, match="give the undamaged picture at the same size"):
        explainer.explain(scene, scene[:-8])


# --- the rule ------------------------------------------------------------------------------------------------------


def test_every_family_has_tools_that_are_measured():
    assert {distortion.group for distortion in REGISTRY.values() if distortion.kadid_id} == set(TOOLS)
    for tools in TOOLS.values():
        assert tools.reference is None or tools.reference in ReferenceMeasures.__dataclass_fields__
        assert tools.estimator is None or tools.estimator.name in Measurements.__dataclass_fields__
    assert set(read_ranges().percentiles) == set(Measurements.__dataclass_fields__)


NOISE = {"undamaged": 0.1, "noise": 0.8, "blur": 0.1}


@pytest.mark.parametrize(
    ("groups", "has_reference", "kind", "name"),
    [
        (NOISE, True, "reference", "psnr_db"),
        (NOISE, False, "model", "quality"),
        ({"undamaged": 0.3, "noise": 0.3, "blur": 0.4}, True, "reference", "gmsd"),
        ({"undamaged": 0.1, "spatial": 0.8, "noise": 0.1}, True, "model", "quality"),
    ],
)
def test_tool_by_the_rule(scene, groups, has_reference: bool, kind: str, name: str):
    choice = choose_tool(groups, measure(scene), read_ranges(), has_reference=has_reference)
    assert (choice.kind, choice.name) == (kind, name)


def test_estimator_confirms_damage_or_does_not(scene):
    noisy, even = get("white_noise")(scene, 5.0, np.random.default_rng(0)), np.full_like(scene, 90)
    for image, confirms in ((noisy, True), (even, False)):
        choice = choose_tool(NOISE, measure(image), read_ranges(), has_reference=False)
        assert choice.estimator is not None
        assert (choice.estimator.name, choice.confirms) == ("noise_sigma", confirms)
    for groups in ({"undamaged": 0.3, "noise": 0.4, "blur": 0.3}, {"undamaged": 0.1, "spatial": 0.8, "noise": 0.1}):
        choice = choose_tool(groups, measure(noisy), read_ranges(), has_reference=False)
        assert (choice.estimator, choice.confirms) == (None, None)


@pytest.mark.parametrize("estimator", [tools.estimator for tools in TOOLS.values() if tools.estimator is not None])
def test_what_is_unusual_is_so_by_the_share_as_it_is_told(estimator):
    for share in np.linspace(0, 1, 4001):
        assert is_unusual(estimator, share) == is_unusual(estimator, round(share, 3))


def test_share_of_clean_photos_below():
    values = np.random.default_rng(0).gamma(2, 3, 2001)
    ranges = CleanRanges(photos=2001, percentiles={"blur": np.percentile(values, np.arange(101)).tolist()})
    for value in (0.1, 3.0, 8.0, 20.0):
        assert ranges.share_below("blur", value) == pytest.approx(percentileofscore(values, value) / 100, abs=0.006)
    assert ranges.share_below("blur", -1) == 0
    assert ranges.share_below("blur", 1e9) == 1
    assert np.isnan(ranges.share_below("blur", np.nan))
    flat = CleanRanges(photos=5, percentiles={"dark_share": [0.0] * 90 + [0.1] * 11})
    assert 0 < flat.share_below("dark_share", 0.0) < 0.9

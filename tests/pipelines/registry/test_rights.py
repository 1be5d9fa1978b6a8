"""Rights: all that touched a model is named, and what is not known is called unknown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import grmp_core
from grmp_core.model.bundle import Bundle, read_bundle
from grmp_core.model.settings import BackboneConfig
from grmp_core.storage import locate
from pipelines.registry.model_card import model_card
from pipelines.registry.rights import Right, rights_lines, rights_of, rights_table, verdict_of


@pytest.fixture
def bundle(make_bundle) -> Bundle:
    return read_bundle(locate(make_bundle(4)))


def with_origin(bundle: Bundle, backbone: BackboneConfig, **provenance) -> Bundle:
    return dataclasses.replace(bundle, backbone=backbone, provenance=provenance)


def test_code_weights_and_every_set_are_named(bundle):
    pretraining = {"source": ["procedural", "kadis700k"]}
    made = with_origin(bundle, BackboneConfig(), target="livec", pretraining=pretraining)
    rights = rights_of(made)
    assert [right.kind for right in rights[:2]] == ["code", "weights"]
    data = {(right.name, right.use) for right in rights[2:]}
    assert {name for name, use in data if "backbone" in use} == {"ImageNet", "BIQ2021", "Berkeley segmentation set"}
    assert {name for name, use in data if use.startswith("pre-training")} == {
        "pictures drawn by this package",
        "kadis700k",
    }
    assert {name for name, use in data if use.startswith("mean")} == {"KADID-10k", "TID2013"}
    assert ("LIVE In the Wild (LIVEC)", "labels of the adaptation") in data
    assert verdict_of(rights).startswith("Commercial use is not cleared: ImageNet, Berkeley segmentation set may")


@pytest.mark.parametrize(
    "backbone",
    [
        BackboneConfig(name="ViT-B-16", pretrained="never_heard_of"),
        BackboneConfig(name="ViT-B-16", checkpoint="/weights.pt"),
        BackboneConfig(name="grmp-nano", checkpoint="/mine.safetensors"),
    ],
)
def test_what_is_not_in_the_table_is_unknown_never_allowed(bundle, backbone):
    rights = rights_of(with_origin(bundle, backbone, target="my_set.yaml"))
    unknown = [right for right in rights if right.commercial == "unknown"]
    assert {right.use for right in unknown} == {"backbone", "training of the backbone", "labels of the adaptation"}
    assert all(right.licence == "unknown" for right in unknown)
    assert "not settled" in verdict_of(rights)
    assert "my_set.yaml" in verdict_of(rights)


def test_a_student_that_started_from_a_file_claims_no_rights_in_the_embedded_weights(bundle):
    teacher = {"teacher": {"name": "plug-in", "licence": "MIT"}}
    for checkpoint, expected in ((None, "Apache-2.0"), ("/mine.safetensors", "unknown")):
        student = BackboneConfig(name="grmp-nano-s", checkpoint=checkpoint)
        rights = rights_of(with_origin(bundle, student, target="livec", **teacher))
        licences = {right.use: right.licence for right in rights if right.kind == "weights"}
        assert licences == {"backbone": expected, "teacher": "MIT"}
        assert ("ImageNet" in {right.name for right in rights}) == (checkpoint is None)


def test_the_verdict_is_the_worst_of_all():
    def right(commercial: str) -> Right:
        return Right(kind="data", name=commercial, licence="x", commercial=commercial, use="y")

    assert verdict_of([right("yes")]).startswith("Commercial use is allowed")
    assert "not settled" in verdict_of([right("yes"), right("unknown")])
    worst = verdict_of([right("yes"), right("unknown"), right("no")])
    assert "not cleared: no may be used" in worst
    assert "terms of unknown are unknown" in worst


def test_the_table_is_complete_and_agrees_with_the_notice(bundle):
    table = rights_table()
    for section in ("code", "weights", "data"):
        for name, entry in table[section].items():
            assert entry["commercial"] in ("yes", "no", "unknown"), name
            assert entry["licence"], name
            assert set(entry.get("made_of", ())) <= table["data"].keys(), name
    root = Path(grmp_core.__file__).parents[1]
    assert table["code"]["grmp-iqa"]["licence"] in (root / "pyproject.toml").read_text()
    assert "subset\n1, which was published for benchmarking" in (root / "NOTICE").read_text()
    assert "published for benchmarking" in table["data"]["biq2021"]["licence"]


def test_the_model_card_has_them(bundle):
    card = model_card("tiny", bundle, False, "first")
    assert "\n".join(rights_lines(bundle)) in card

"""Adapting, evaluating and scoring: what a model has learned from is not what it is judged by."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest

from grmp_core.errors import InputError
from grmp_core.model.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.configuration.models import CardConfig, RegisterConfig
from pipelines.configuration.scoring import ScoreConfig
from pipelines.few_shot.adaptation_run import adapt_to_all_labels
from pipelines.registry.origin import card_of
from pipelines.registry.registration import register_model
from pipelines.scoring.scoring_run import score_images
from pipelines.scoring.target_evaluation import evaluate_target
from pipelines.sweeping.sweep_run import run_sweep
from tests.pipelines.workloads.small import NUM_IMAGES, moved, write_png

pytestmark = pytest.mark.ray


def test_adapt_evaluate_and_score_go_together(config, output, prompts):
    adapted = adapt_to_all_labels(config)
    scoring = ScoreConfig(model=adapted.bundle, images=(str(output / "target"),), output=str(output / "s.csv"))
    chosen = dataclasses.replace(config, score=scoring)
    with pytest.raises(InputError, match=f"has learned from all {NUM_IMAGES} images .* that can be read"):
        evaluate_target(chosen)
    (output / "target" / "empty.jpg").write_bytes(b"")
    for i in range(3):
        write_png(output / "target" / f"more_{i}.png", scenes.reference(700 + i, 300, 250))
    scored = score_images(chosen)
    (output / "target" / "empty.jpg").unlink()
    assert len(scored.scores) == NUM_IMAGES + 4
    assert scored.scores["error"].notna().sum() == 1
    assert pd.read_csv(output / "s.csv")["image_path"].tolist() == scored.scores["image_path"].tolist()
    assert scored.scores["mos_scale_score"].dropna().between(0, 10).all()
    assert len(read_bundle(locate(adapted.bundle)).evidence.predicted_N) == NUM_IMAGES
    registered = register_model(dataclasses.replace(config, register=RegisterConfig(name="all", bundle=adapted.bundle)))
    card = card_of(dataclasses.replace(config, card=CardConfig(model=f"models:/all/{registered.version}")))
    way = [(step, found.partition(" ")[0]) for step, found in card.way]
    assert [found for step, found in way if step == "run"] == ["adapt", "pretrain"]
    assert ("started from", "prompts") in way
    assert {"data table", "data tasks"} <= {step for step, _ in way}
    good = scored.scores[scored.scores["error"].isna()]
    assert (good["quality_low"] < good["quality_high"]).all()
    assert good["unlike"].isin([True, False]).all()


def test_evaluation_leaves_out_what_the_model_has_learned_from(config, swept):
    trial = swept.results.iloc[0]
    evaluation = evaluate_target(dataclasses.replace(config, score=ScoreConfig(model=trial["bundle"])))
    assert evaluation.learned_from == trial["shots"] == 6
    assert evaluation.scores.n == NUM_IMAGES - 6
    assert math.isnan(evaluation.srcc_low)  # from fewer than ten images
    written = (locate(config.output) / "evaluate" / "evaluation.json").read_bytes().decode()
    assert json.loads(written, parse_constant=pytest.fail)["srcc_interval"] == [None, None]


def test_evaluation_says_when_a_model_does_not_name_its_labels(config, swept, output):
    bundle = read_bundle(locate(swept.results.iloc[0]["bundle"]))
    silent = {name: value for name, value in bundle.provenance.items() if name != LEARNED_FROM}
    write_bundle(locate(output / "silent"), dataclasses.replace(bundle, provenance=silent))
    evaluation = evaluate_target(dataclasses.replace(config, score=ScoreConfig(model=str(output / "silent"))))
    assert evaluation.learned_from is None
    assert evaluation.scores.n == NUM_IMAGES
    assert "does not say what it has learned from" in evaluation.as_text()


def test_a_target_that_the_prompts_know_the_scores_of_is_refused(config, output, prompts):
    known = moved(config, output, "known")
    bundle = read_bundle(locate(config.output) / "pretrain" / "bundle")
    taught = dataclasses.replace(bundle, provenance={**bundle.provenance, "source": "table"})
    write_bundle(locate(known.output) / "pretrain" / "bundle", taught)
    with pytest.raises(InputError, match="pre-trained on the scores of table"):
        run_sweep(known)
    adapted = dataclasses.replace(bundle, kind="model", provenance={"pretraining": {"source": "table"}})
    write_bundle(locate(known.output) / "bundle", adapted)
    with pytest.raises(InputError, match="pre-trained on the scores of table, so no image of it is new"):
        evaluate_target(dataclasses.replace(config, score=ScoreConfig(model=f"{known.output}/bundle")))
    with pytest.raises(InputError, match="pre-trained on the scores of table, so no image of it is new"):
        evaluate_target(dataclasses.replace(config, score=ScoreConfig(model=f"{known.output}/pretrain/bundle")))


def test_prompts_that_were_adapted_to_nothing_have_learned_from_no_image(config, prompts):
    model = f"{config.output}/pretrain/bundle"
    evaluation = evaluate_target(dataclasses.replace(config, score=ScoreConfig(model=model)))
    assert evaluation.learned_from == 0
    assert evaluation.scores.n == NUM_IMAGES
    assert evaluation.srcc_low <= evaluation.scores.srcc <= evaluation.srcc_high


def test_a_name_that_is_not_utf8_costs_its_own_row_only(config, prompts, tmp_path):
    image = scenes.reference(1, 230, 260)
    write_png(tmp_path / "fine.png", image)
    os.rename(tmp_path / "fine.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    write_png(tmp_path / "fine.png", image)
    model = f"{config.output}/pretrain/bundle"
    scored = score_images(dataclasses.replace(config, score=ScoreConfig(images=(str(tmp_path),), model=model))).scores
    named = {Path(row.image_path).name: row for row in scored.itertuples()}
    assert set(named) == {"caf\\xe9.png", "fine.png"}
    assert "is not UTF-8" in named["caf\\xe9.png"].error
    assert pd.isna(named["fine.png"].error)
    assert 0 < named["fine.png"].quality < 1

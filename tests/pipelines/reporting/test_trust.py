"""The report's section on intervals and refusals: its numbers, and where there is none."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from grmp_core.confidence.evidence import Evidence
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.model.settings import PromptConfig
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.ablation import arms
from pipelines.configuration.schema import Config
from pipelines.reporting.trust import COVERAGES, coverage_of, intervals_and_refusals, risk_by_share
from pipelines.results.sweep_folder import TrialFolder


def evidence(count: int = 200) -> Evidence:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.3, 0.7, count)
    quality = predicted + rng.uniform(-0.1, 0.1, count)
    names = tuple(map(str, range(count)))
    return Evidence.of(predicted, quality, np.zeros((count, 4)), names, early_size=2, deep=False)


def test_coverage_is_the_share_inside_and_grows_with_what_is_asked():
    rng = np.random.default_rng(1)
    quality = rng.uniform(0.3, 0.7, 4000)
    observed = coverage_of(quality, quality + rng.uniform(-0.1, 0.1, 4000), evidence(), COVERAGES)
    assert observed == pytest.approx(COVERAGES, abs=0.07)
    assert observed == sorted(observed)


def test_risk_is_the_mean_error_of_the_best_known_share():
    excess, error = np.array([3.0, -1.0, 0.0, 7.0]), np.array([30.0, 10.0, 20.0, 100.0])
    shares, risks = risk_by_share(excess, error)
    np.testing.assert_allclose(shares, [0.5, 0.75, 1])
    np.testing.assert_allclose(risks, [15, 20, 40])


@pytest.fixture
def sweep(make_backbone, tmp_path):
    """A sweep with one chosen trial, as far as the section reads it."""
    folder = TrialFolder(locate(tmp_path / "trial"))
    config = Config(backbone=make_backbone().config, prompts=PromptConfig(visual_tokens=2), views=ViewConfig())
    bundle = dataclasses.replace(
        arms.random_prompts(config),
        kind="model",
        score_range=ScoreRange(mos_min=0.0, mos_max=50.0),
        evidence=evidence(),
    )
    write_bundle(folder.bundle, bundle)
    rng = np.random.default_rng(2)
    quality = rng.uniform(0.3, 0.7, 100)
    mos = 50 * (quality + rng.uniform(-0.1, 0.1, 100))
    columns = {"image_path": [f"{i}.png" for i in range(100)], "mos": mos, "quality": quality}
    table = pd.DataFrame({**columns, "mos_scale_score": 50 * quality, "excess": rng.normal(-1, 1, 100)})
    folder.write_predictions(table)
    return SimpleNamespace(
        chosen=SimpleNamespace(trial="it"),
        folder=SimpleNamespace(trial=lambda name: folder),
        table=table,
        bundle=bundle,
    )


def test_the_section_tells_coverage_width_and_unlike_images(sweep):
    [section] = intervals_and_refusals(sweep)
    text, pictures = section.blocks
    assert "errors of 200 held-out predictions" in text.text
    assert f"{(sweep.table['excess'] > 0).sum()} test images are unlike" in text.text
    assert [picture.name for picture in pictures.pictures] == ["coverage", "risk"]


def test_predictions_of_an_earlier_version_have_no_risk_and_models_no_section(sweep):
    folder = sweep.folder.trial("it")
    folder.write_predictions(sweep.table.drop(columns="excess"))
    [section] = intervals_and_refusals(sweep)
    assert [picture.name for picture in section.blocks[1].pictures] == ["coverage"]
    write_bundle(folder.bundle, dataclasses.replace(sweep.bundle, evidence=None))
    assert intervals_and_refusals(sweep) == []
    assert intervals_and_refusals(SimpleNamespace(chosen=None)) == []

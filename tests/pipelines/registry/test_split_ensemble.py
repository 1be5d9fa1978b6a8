"""The models of a sweep's splits as one bundle: who counts for how much, and what it is tested on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from grmp_core.confidence.evidence import Evidence
from grmp_core.errors import InputError
from grmp_core.evaluation.stacking import stacking_weights
from grmp_core.imaging.decoding import id_of_file
from grmp_core.model.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.model.ensemble import separated
from grmp_core.model.scorer import Scorer
from grmp_core.storage import locate
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.models import RegisterConfig
from pipelines.configuration.schema import Config
from pipelines.registry.split_ensemble import ensemble_of_splits
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import results_frame
from pipelines.results.trial import Trial, TrialResult
from pipelines.sweeping.grid import choose
from tests.pipelines.registry.bundles import qualities

SEEDS, LABELLED, TESTED = (1, 2, 3), 3, 24


@pytest.fixture
def config(make_bundle, images, tmp_path) -> Config:
    """Three splits whose models have learned from three images each; the second is right about every image."""
    mos = 100 * qualities(make_bundle(2), images)
    pd.DataFrame({"image": images, "mos": mos}).to_csv(tmp_path / "labels.csv", index=False)
    sweep, rows = SweepFolder.of(str(tmp_path / "run")), []
    for split, seed in enumerate(SEEDS):
        trial = Trial(strength=1.0, shots=LABELLED, budget=LABELLED, data_ratio=0.1, split_seed=split)
        folder = sweep.trial(trial.name)
        predicted, statistics = np.full(LABELLED, 0.1 * seed), np.full((LABELLED, 96), float(seed))
        evidence = Evidence.of(predicted, predicted, statistics, ("a", "b", "c"), early_size=48, deep=False)
        learned = [id_of_file(path) for path in images[3 * split : 3 * split + 3]]
        bundle = read_bundle(locate(make_bundle(seed)))
        made = {"provenance": {LEARNED_FROM: learned}, "evidence": evidence}
        write_bundle(folder.bundle, dataclasses.replace(bundle, **made))
        tested = images[:TESTED]
        columns = {"image_path": tested, "mos": mos[:TESTED], "quality": 0.5, "mos_scale_score": 50.0}
        folder.write_predictions(pd.DataFrame(columns))
        rows.append((trial, TrialResult(val_srcc=0.1 * split, srcc=0.5, bundle=folder.bundle.uri)))
    table = results_frame(rows)
    sweep.write_results(table, choose(table))
    target = TargetConfig(path=str(tmp_path / "labels.csv"), score_min=0, score_max=100)
    return Config(output=str(tmp_path / "run"), target=target, register=RegisterConfig(ensemble="splits"))


@pytest.mark.filterwarnings("ignore::grmp_core.evaluation.logistic_map.FitWarning")  # the test images lie on a line
def test_the_right_model_is_the_ensemble_and_it_is_tested_on_what_is_new_to_all(config, images, monkeypatch):
    place = ensemble_of_splits(config)
    bundle = read_bundle(place)
    assert bundle.provenance["ensemble"] == {"lambda=1-shots=3-seed=1": 1.0}
    assert len(separated(bundle.parameters)) == 1
    assert bundle.evidence is None
    assert set(bundle.provenance[LEARNED_FROM]) == {id_of_file(path) for path in images[:9]}
    held_out = SweepFolder.of(config.output).ensemble.read_predictions()
    assert sorted(held_out["image_path"]) == sorted(images[9:TESTED])
    np.testing.assert_allclose(held_out["mos_scale_score"], held_out["mos"], atol=1e-3)
    assert bundle.metrics["srcc"] == pytest.approx(1)
    monkeypatch.setattr("pipelines.registry.split_ensemble.stacked_model", None)
    assert ensemble_of_splits(config) == place  # made once


def test_without_a_test_image_that_is_new_to_all_there_are_no_predictions(config, images):
    sweep = SweepFolder.of(config.output)
    for split in range(len(SEEDS)):  # every image has been learned from in one split
        trial = sweep.trial(f"lambda=1-shots=3-seed={split}")
        learned = {LEARNED_FROM: [id_of_file(path) for path in images[split :: len(SEEDS)]]}
        write_bundle(trial.bundle, dataclasses.replace(read_bundle(trial.bundle), provenance=learned))
        sweep.ensemble.write_predictions(trial.read_predictions())  # of an ensemble of other members
    bundle = read_bundle(ensemble_of_splits(config))
    assert bundle.metrics == {}
    assert sweep.ensemble.read_predictions() is None


def test_weights_are_those_of_the_errors_on_each_others_labels(config, images):
    sweep = SweepFolder.of(config.output)
    names = [f"lambda=1-shots=3-seed={split}" for split in range(3)]
    right = pd.read_csv(config.target.path).assign(
        mos=lambda t: (t["mos"] + 17 * np.sin(np.arange(len(t)))).clip(0, 100)
    )
    right.to_csv(config.target.path, index=False)
    members = {name: read_bundle(sweep.trial(name).bundle) for name in names}
    predicted = np.stack([[s.quality for s in Scorer(m, "x").score(images[:9])] for m in members.values()], axis=1)
    for split in range(3):
        predicted[3 * split : 3 * split + 3, split] = np.nan
    expected = stacking_weights(predicted, right["mos"].to_numpy()[:9] / 100)
    found = read_bundle(ensemble_of_splits(config)).provenance["ensemble"]
    np.testing.assert_allclose([found.get(name, 0) for name in names], expected, atol=1e-5)
    assert 0 < found[names[1]] < 1


def test_an_ensemble_of_one_model_and_one_of_a_given_bundle_are_refused(config):
    sweep = SweepFolder.of(config.output)
    table = sweep.read().trials
    sweep.write_results(table[table["split_seed"] == 2], sweep.chosen())
    with pytest.raises(InputError, match="needs two models or more"):
        ensemble_of_splits(config)
    with pytest.raises(InputError, match=r"leave register\.bundle out"):
        RegisterConfig(ensemble="splits", bundle="somewhere")

"""A whole stream with its runs in MLflow: sets are added, and what is there stays."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.model.differentiable import unadapted
from grmp_core.model.settings import BackboneConfig
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.configuration.continual import ContinualConfig
from pipelines.configuration.models import CardConfig, RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import SweepConfig
from pipelines.registry.origin import card_of
from pipelines.registry.registration import register_model
from pipelines.registry.rights import rights_of
from pipelines.streaming_sets.stream_run import run_stream
from pipelines.streaming_sets.workers import in_process
from pipelines.tracking.tracker import tracker_of
from tests.pipelines.workloads.small import write_png

IMAGES = 12


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Three small sets, of which the second one is of differences."""
    found = []
    for number, name in enumerate("abc"):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(IMAGES):
            write_png(folder / f"{i}.png", scenes.reference(900 + 20 * number + i, 64, 72))
        column = "dmos" if name == "b" else "mos"
        frame = {"image": [f"{i}.png" for i in range(IMAGES)], column: np.linspace(1, 9, IMAGES)}
        pd.DataFrame(frame).to_csv(folder / "labels.csv", index=False)
        file = tmp_path / f"{name}.yaml"
        direction = ", higher_is_better: false" if name == "b" else ""
        file.write_text(f"target: {{path: {folder}/labels.csv{direction}}}")
        found.append(str(file))
    return found


def contents(bundles: tuple[str, ...]) -> list[dict[str, bytes]]:
    return [{file.name: file.read_bytes() for file in locate(uri).list()} for uri in bundles]


@pytest.fixture
def base(unadapted_folder, mlflow_store, tmp_path) -> Config:
    start = read_bundle(locate(unadapted_folder))
    adapt = dataclasses.replace(Config().adapt, epochs=2, folds=2, lr=0.01)
    return Config(
        output=str(tmp_path / "out"),
        backbone=start.backbone,
        views=ViewConfig(train_views=2, score_grid=2),
        adapt=adapt,
        sweep=SweepConfig(test_fraction=0.5),
        tracking=TrackingConfig(uri=mlflow_store.uri, experiment="streams"),
    )


def test_sets_are_added_and_models_of_before_stay(base, files, unadapted_folder, tmp_path):
    def with_sets(chosen: list[str], **settings: Any) -> Config:
        continual = ContinualConfig(sets=tuple(chosen), start=unadapted_folder, **settings)
        return dataclasses.replace(base, continual=continual)

    name, place = "streamed", base.output
    first = run_stream(with_sets(files[:2]), in_process)
    assert first.sets == ("a", "b")
    before = contents(first.bundles)
    shutil.rmtree(tmp_path / "a")  # the images of the first set are gone
    (Path(place) / "continual" / "sets" / "a" / "train.safetensors").unlink()
    whole = run_stream(with_sets(files), in_process)
    assert contents(whole.bundles)[:2] == before
    assert whole.srcc_TT.shape == whole.choice_TM.shape == (3, 3)
    np.testing.assert_array_equal(whole.srcc_TT[:2, :2], first.srcc_TT)
    np.testing.assert_allclose(whole.choice_TM.sum(axis=1), 1)
    assert "Share of a set's test images" in whole.as_text()
    assert whole.as_json()["sets"] == ["a", "b", "c"]

    tracker = tracker_of(base)
    assert whole.run_id == first.run_id
    parent = tracker.client.get_run(whole.run_id)
    history = [metric.value for metric in tracker.client.get_metric_history(whole.run_id, "srcc/b")][-3:]
    np.testing.assert_allclose(history, whole.srcc_TT[:, 1])
    assert {used.dataset.name for used in parent.inputs.dataset_inputs} == {"a", "b", "c"}
    nested = tracker.client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{whole.run_id}'")
    assert {run.data.params["bundle"] for run in nested} == set(whole.bundles)
    assert tracker.pending() == []

    registering = dataclasses.replace(base, register=RegisterConfig(name=name, bundle=whole.bundles[1]))
    version = register_model(registering).version
    card = card_of(dataclasses.replace(base, card=CardConfig(model=f"models:/{name}/{version}")))
    way = dict(card.way)
    assert way["stream"] == "a -> b, method own_norms"
    assert any(whole.run_id in found for step, found in card.way if step == "run")
    bundle = read_bundle(locate(whole.bundles[2]))
    assert [one["set"] for one in bundle.provenance["stream"]] == ["a", "b", "c"]
    assert [right.name for right in rights_of(bundle) if right.use == "labels of the adaptation"] == [
        "images and scores of whoever adapted it"
    ]

    with pytest.raises(InputError, match="has a as set 1: name the sets that are there first"):
        run_stream(with_sets(files[1:]), in_process)
    with pytest.raises(InputError, match=r"step 1 of the stream at .* was made otherwise \(gate was"):
        run_stream(with_sets(files, sharpness=8.0), in_process)
    with pytest.raises(InputError, match=r"set a: .*labels\.csv"):  # another output has nothing of it
        run_stream(dataclasses.replace(with_sets(files), output=str(tmp_path / "other")), in_process)
    assert contents(whole.bundles)[:2] == before


def test_a_split_file_that_was_edited_is_refused(base, files, unadapted_folder, tmp_path):
    def write_splits(parts: list[str]) -> None:
        pd.DataFrame({"image": [f"{i}.png" for i in range(IMAGES)], "official": parts}).to_csv(file, index=False)

    file, parts = tmp_path / "splits.csv", ["train", "test"] * (IMAGES // 2)
    sweep = dataclasses.replace(base.sweep, splits=str(file))
    continual = ContinualConfig(sets=tuple(files[:1]), start=unadapted_folder)
    config = dataclasses.replace(base, sweep=sweep, continual=continual)
    write_splits(parts)
    first = run_stream(config, in_process)
    assert contents(run_stream(config, in_process).bundles) == contents(first.bundles)
    write_splits(parts[::-1])
    with pytest.raises(InputError, match=r"the set at .* with other labels or settings \(sweep\.splits was"):
        run_stream(config, in_process)


@pytest.mark.ray
def test_ray_gives_the_same_models(base, files, tmp_path, ray_instance):
    """But for the last bits, which depend on where a process has its weights in memory."""
    start = unadapted(load_backbone(BackboneConfig()))  # workers know no tiny backbone
    write_bundle(locate(tmp_path / "start"), start)
    continual = ContinualConfig(sets=tuple(files[:2]), start=str(tmp_path / "start"))
    config = dataclasses.replace(base, backbone=start.backbone, continual=continual)
    here = run_stream(dataclasses.replace(config, output=str(tmp_path / "here")), in_process)
    there = run_stream(dataclasses.replace(config, output=str(tmp_path / "there")))
    for ours, theirs in zip(here.bundles, there.bundles, strict=True):
        expected = read_bundle(locate(ours)).parameters
        torch.testing.assert_close(read_bundle(locate(theirs)).parameters, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.srcc_TT, here.srcc_TT, atol=1e-3)

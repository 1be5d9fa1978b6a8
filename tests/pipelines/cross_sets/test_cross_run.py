"""Models of one set on another's test images, against the scores that users get from the same bundles."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import srcc
from grmp_core.imaging.decoding import id_of_file
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle, write_bundle
from grmp_core.model.differentiable import unadapted
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import as_dict
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import CrossConfig, SweepConfig
from pipelines.cross_sets import cross_test
from pipelines.cross_sets.cross_run import Cross, run_cross
from pipelines.cross_sets.trained_sets import short_names
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import results_frame
from pipelines.results.trial import Trial, TrialResult
from pipelines.sweeping.grid import choose

IMAGES, SHOTS, SEEDS = 20, 10, (0, 1)


@pytest.fixture
def start(unadapted_folder) -> Bundle:
    return read_bundle(locate(unadapted_folder))


@pytest.fixture
def outputs(tmp_path, start) -> list[str]:
    """The sweeps of two small sets, of which the second one is of differences. Trials hold made-up models."""
    return [write_trained(tmp_path, name, start, falling=name == "b") for name in "ab"]


def twin(i: int) -> int:
    """Number of the same photo in the other set."""
    return IMAGES - 1 - i


def write_trained(folder: Path, name: str, start: Bundle, falling: bool, shots: int = SHOTS, shared: int = 0) -> str:
    """shared: the first so many photos are the last ones of the set a, every second one as another file."""
    photos = folder / f"photos_{name}"
    photos.mkdir()
    for i in range(IMAGES):
        number = 700 + i if name == "a" else 700 + twin(i) if i < shared else 800 + i
        compression = 1 if name != "a" and i % 2 else 9
        photo = scenes.reference(number, 64, 72)[..., ::-1]
        cv2.imwrite(str(photos / f"{i}.png"), photo, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    column = "dmos" if falling else "mos"
    frame = {"image": [f"{i}.png" for i in range(IMAGES)], column: np.linspace(1, 9, IMAGES)}
    pd.DataFrame(frame).to_csv(photos / "labels.csv", index=False)
    config = Config(
        output=str(folder / "elsewhere" / name),  # the output has moved since
        backbone=start.backbone,
        views=ViewConfig(train_views=1, score_grid=2),
        target=TargetConfig(
            path=str(photos / "labels.csv"), higher_is_better=not falling, encoded=str(folder / "encoded")
        ),
        sweep=SweepConfig(lambdas=(1.0,), shots=(shots,), split_seeds=SEEDS, test_fraction=0.5),
    )
    output = folder / name
    write_bundle(locate(output) / "pretrain" / "bundle", start)
    target = load_target(config.target)
    protocol, sweep = target_protocol(config, target), SweepFolder.of(str(output))
    rows = []
    for seed in SEEDS:
        trial = Trial(strength=1.0, shots=shots, budget=shots, data_ratio=shots / IMAGES, split_seed=seed)
        parts = protocol.parts(seed)
        labelled = [id_of_file(target.image_paths[i]) for i in protocol.labelled(parts, shots)]
        generator = torch.Generator().manual_seed(seed + 10 * falling)
        moved = {n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in start.parameters.items()}
        about = {**start.provenance, LEARNED_FROM: labelled}
        model = dataclasses.replace(start, kind="model", parameters=moved, provenance=about, views=config.views)
        write_bundle(sweep.trial(trial.name).bundle, model)
        tested = {"image_path": [target.image_paths[i] for i in parts.test], "mos": target.mos[parts.test]}
        tested |= {"quality": 0.5, "mos_scale_score": target.mos[parts.test] + seed}
        sweep.trial(trial.name).write_predictions(pd.DataFrame(tested))
        rows.append((trial, TrialResult(val_srcc=0.5, srcc=1.0, plcc=1.0, epochs=1, seconds=1.0)))
    table = results_frame(rows)
    sweep.write_results(table, choose(table))
    (sweep.root / "manifest.json").write_json({"config": as_dict(config)})
    return str(output)


def crossed(outputs: list[str], **settings) -> Cross:
    folder = str(Path(outputs[0]).parent / "out")
    return run_cross(Config(output=folder, cross=CrossConfig(sweeps=tuple(outputs), **settings)), here=True)


def test_cells_are_the_scores_that_users_get(outputs, start):
    found = crossed(outputs)
    assert (found.names, found.shots) == (("a", "b"), SHOTS)
    cell = found.results.set_index(["trained_on", "tested_on", "split_seed"]).sort_index()
    for trained, tested, falling in (("a", "b", True), ("b", "a", False)):
        config = Config(sweep=SweepConfig(test_fraction=0.5))
        photos = Path(outputs[0]).parent / f"photos_{tested}" / "labels.csv"
        target = load_target(TargetConfig(path=str(photos), higher_is_better=not falling))
        for seed in SEEDS:
            trial = SweepFolder.of(str(Path(outputs[0]).parent / trained)).trial(f"lambda=1-shots={SHOTS}-seed={seed}")
            scorer = Scorer(read_bundle(trial.bundle), load_backbone(start.backbone))
            rows = target_protocol(config, target).parts(seed).test
            quality = [scorer.score_views(scorer.views_of(target.image_paths[i])).quality for i in rows]
            expected = srcc(np.array(quality), target.mos[rows]) * (-1 if falling else 1)
            assert cell.loc[(trained, tested, seed), "srcc"] == pytest.approx(expected)
            assert cell.loc[(trained, tested, seed), "images"] == len(rows)
    assert cell.loc[("a", "a", 0), ["srcc", "plcc"]].tolist() == pytest.approx([1, 1])
    assert "SRCC, trained on" in found.as_text()
    medians = found.as_json()["medians"]["SRCC"]
    assert medians["b"]["a"] == pytest.approx(cell.loc[("b", "a")]["srcc"].median())  # trained on b, tested on a


@pytest.mark.ray
def test_with_ray_the_matrix_is_the_same(tmp_path, ray_instance):
    """With the embedded backbone, which Ray's workers know."""
    start = unadapted(load_backbone(BackboneConfig()))
    outputs = [write_trained(tmp_path, name, start, falling=name == "b") for name in "ab"]
    found = run_cross(Config(output=f"{tmp_path}/ray", cross=CrossConfig(sweeps=tuple(outputs))))
    here = crossed(outputs)
    pd.testing.assert_frame_equal(found.results, here.results)
    assert Path(found.folder, "cross.csv").read_text() == Path(here.folder, "cross.csv").read_text()


def test_images_that_a_model_has_learned_from_are_left_out(outputs, start):
    folder = Path(outputs[0]).parent
    results = crossed([outputs[0], write_trained(folder, "c", start, falling=False, shared=IMAGES // 2)]).results
    for row in results[results["trained_on"] != results["tested_on"]].itertuples():
        trained, tested = (
            load_target(TargetConfig(path=str(folder / f"photos_{name}" / "labels.csv")))
            for name in (row.trained_on, row.tested_on)
        )
        config = Config(sweep=SweepConfig(test_fraction=0.5))
        protocol = target_protocol(config, trained)
        labelled = set(protocol.labelled(protocol.parts(row.split_seed), SHOTS))
        test = target_protocol(config, tested).parts(row.split_seed).test
        first = IMAGES // 2 if row.tested_on == "a" else 0
        both = [i for i in test if i in range(first, first + IMAGES // 2) and twin(i) in labelled]
        assert (row.left_out, row.images) == (len(both), len(test) - len(both))
    assert results["left_out"].sum() > 0


@pytest.mark.parametrize("splits", [SEEDS, SEEDS[:1]], ids=["all", "one"])
def test_splits_without_an_image_that_is_left_count_in_no_median(outputs, monkeypatch, splits):
    known = cross_test._known
    calls = itertools.cycle(SEEDS)  # of each pair of sets

    def all_known(test, part, learned_from):
        return np.ones(len(part), bool) if next(calls) in splits else known(test, part, learned_from)

    monkeypatch.setattr(cross_test, "_known", all_known)
    found = crossed(outputs)
    results = found.results.set_index(["trained_on", "tested_on", "split_seed"])
    empty = results.loc[[("a", "b", 0), ("b", "a", 0)]]
    assert empty[["srcc", "plcc"]].isna().all(axis=None)
    assert (empty["images"] == 0).all()
    assert (empty["left_out"] == IMAGES // 2).all()
    expected = results.loc[("a", "b", 1), "srcc"]
    assert found.as_json()["medians"]["SRCC"]["a"]["b"] == pytest.approx(expected, nan_ok=True)
    assert f"{2 * len(splits)} tests of one split have no image left" in found.as_text()


@pytest.mark.parametrize(("settings", "message"), [({"shots": 3}, r"no split with 3 labels \(a: \[10\], b: \[10\]\)")])
def test_models_that_are_not_there_are_named(outputs, settings, message):
    with pytest.raises(InputError, match=message):
        crossed(outputs, **settings)


def test_sweeps_without_a_number_of_labels_in_common_are_refused(outputs, start, tmp_path):
    other = write_trained(tmp_path, "c", start, falling=False, shots=8)
    with pytest.raises(InputError, match=r"no number of labels in common \(a: 10; c: 8\)"):
        crossed([outputs[0], other])
    with pytest.raises(InputError, match="names 1 different sweeps in 2 places"):
        crossed([outputs[0], outputs[0]])
    (Path(other) / "sweep" / "manifest.json").unlink()
    with pytest.raises(InputError, match="has not ended"):
        crossed([outputs[0], other])


def test_names_are_what_tells_paths_apart():
    assert short_names(["runs/livec", "runs/ss02/"]) == ["livec", "ss02"]
    assert short_names(["x/livec/ablation/MPP", "x/ss02/ablation/MPP"]) == ["livec", "ss02"]
    assert short_names(["s3://bucket/a", "a"]) == ["s3://bucket/a", "a"]

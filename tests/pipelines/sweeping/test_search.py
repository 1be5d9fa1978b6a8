"""`sweep.search`: what may be searched, that it is settled by validation alone, and what a sweep says about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray

from grmp_core import datasets
from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.identity import Identity
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.settings import AdaptConfig, MetaConfig
from grmp_core.storage import locate
from pipelines.cli import run_command
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import load_config, with_settings
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.pretraining import PretrainConfig, SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import SweepConfig
from pipelines.pretraining.pretraining_run import pretrain_prompts
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.trial import Trial, TrialResult
from pipelines.runtime.capacity import how_many_fit
from pipelines.sweeping import grid, grid_run, sweep_run
from pipelines.sweeping.search import random_settings
from pipelines.sweeping.search_space import read_space
from pipelines.sweeping.sweep_run import run_sweep
from pipelines.sweeping.trial_pool import Runner
from pipelines.task_making.synthesis import synthesize
from tests.pipelines.workloads.small import labelled_folder

RATE = {"adapt.lr": {"low": 0.003, "high": 0.3, "log": True}}


def searching(space: dict, **options) -> Config:
    return Config(sweep=SweepConfig(search="random", space=space, **options))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"adapt.lrr": {"low": 0, "high": 1}}, "adapt.lrr is unknown; did you mean adapt.lr?"),
        ({"adapt": {"values": [1]}}, "adapt is unknown"),
        ({"views.train_views": {"values": [2, 4]}}, "cannot be searched, since all trials share"),
        ({"adapt.trainable.text_depth": {"values": [1]}}, "adapt.trainable.text_depth"),
        ({"adapt.lr": {"low": 1, "high": 0.1}}, "low 1 must be below high 0.1"),
        ({"adapt.lr": {"low": 0, "high": 0.1, "log": True}}, "low 0 must be above 0 with log"),
        ({"adapt.lr": {"low": -1, "high": 0.1}}, "adapt.lr must be a number, 0 or more, not -1.0"),
        ({"adapt.lr": {"low": "a", "high": 0.1}}, "low and high must be numbers"),
        ({"adapt.lr": {"low": 0.1}}, "low and high must be numbers"),
        ({"adapt.lr": {"min": 0.1, "high": 1}}, "write {low: 0.01"),
        ({"adapt.lr": 3}, "write {low: 0.01"),
        ({"adapt.lr": {"low": 0.1, "high": float("inf")}}, "low and high must be numbers"),
        ({"adapt.lr": {"low": 0.1, "high": 1, "log": "yes"}}, "log must be true or false"),
        ({"adapt.epochs": {"low": 1.5, "high": 3}}, "whole numbers"),
        ({"adapt.epochs": {"values": [10, 0]}}, "adapt.epochs must be a whole number, 1 or more, not 0"),
        ({"adapt.epochs": {"values": [10, "x"]}}, "adapt.epochs must be a whole number"),
        ({"adapt.epochs": {"values": []}}, "at least one"),
        ({"adapt.epochs": {"values": [1], "low": 1}}, "stand alone"),
        ({"adapt.qgr.scope": {"low": 0, "high": 1}}, "is not a number"),
        ({"adapt.qgr.scope": {"values": ["tensor", "row"]}}, "adapt.qgr.scope must be one of"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(space, message):
    with pytest.raises(InputError) as caught:
        read_space(searching(space))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sweep.asha=true", "holes in the reported table"),
        ("sweep.space={adapt.lr: {low: 0.1, high: 1}}", "sweep.search is grid"),
        ("sweep.search=optuna", "needs sweep.space"),
        ("sweep.search=bayes", "must be one of grid, random, optuna"),
        ("sweep.space=[1]", "sweep.space must be a section with keys"),
    ],
)
def test_half_a_search_is_refused_with_exit_code_2(setting, message, capsys):
    assert run_command("sweep", ["--set", setting]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_bounds_are_read_as_the_key_s_kind():
    space = read_space(
        load_config(
            None,
            [
                "sweep.search=random",
                "sweep.space={adapt.lr: {low: 1e-3, high: 1, log: true}, adapt.epochs: {low: 5, high: 9}}",
            ],
        )
    )
    assert (space["adapt.lr"].low, space["adapt.lr"].high, space["adapt.lr"].log) == (1e-3, 1.0, True)
    drawn = [settings["adapt.epochs"] for settings in random_settings(space, 40, seed=0)]
    assert set(drawn) == {5, 6, 7, 8, 9}


def test_random_settings_depend_on_the_seed_alone_and_more_begin_with_the_fewer():
    space = read_space(searching(RATE))
    few, many = random_settings(space, 3, seed=0), random_settings(space, 6, seed=0)
    assert many[:3] == few
    assert len(many) == 6
    assert random_settings(space, 3, seed=1) != few
    assert len(random_settings(read_space(searching({"adapt.epochs": {"values": [1, 2]}})), 20, seed=0)) == 2


def test_a_searched_lambda_is_the_only_one_of_the_grid():
    config = with_settings(Config(), {"adapt.qgr.strength": 2.5, "adapt.epochs": 7})
    assert config.sweep.lambdas == (2.5,)
    assert config.adapt.epochs == 7
    assert with_settings(Config(), {"adapt.epochs": 7}).sweep.lambdas == Config().sweep.lambdas


def by_reference(ids: Iterable[str]) -> Protocol:
    names = tuple(ids)
    return Protocol(splits=SplitTable(reference_ids=names), quality_N=np.linspace(0, 1, len(names)))


def test_without_shots_and_ratios_the_whole_training_part_is_labelled():
    trials = grid.plan_trials(Config(), by_reference(map(str, range(10))))
    assert {(trial.shots, trial.data_ratio) for trial in trials} == {(8, 1.0)}


def test_fewer_labels_than_folds_are_refused_with_the_plan():
    config = Config(sweep=SweepConfig(shots=(2,)), adapt=AdaptConfig(folds=3))
    with pytest.raises(InputError, match="2 references, 3 are needed"):
        grid.plan_trials(config, by_reference(map(str, range(10))))


def test_folds_that_a_search_may_settle_on_must_fit_all_trials():
    settings = SweepConfig(shots=(5, 50), search="random", space={"adapt.folds": {"values": [2, 10]}})
    config = Config(sweep=settings)
    with pytest.raises(InputError, match="5 references, 10 are needed"):
        grid.check_plan(config, read_space(config), by_reference(map(str, range(100))))


def test_ratios_whose_shots_differ_between_splits_are_one_budget():
    """References of 1 and of 9 images: how many images four fifths of the references have depends on the split."""
    ids = by_reference(f"r{k}" for k in range(10) for _ in range(1 + 8 * (k % 2)))
    ratios = SweepConfig(lambdas=(0.0, 1.0), ratios=(0.2, 0.5), split_seeds=(0, 1, 2))
    trials = grid.plan_trials(Config(sweep=ratios), ids)
    cells = pd.DataFrame([trial.as_row() for trial in trials])
    low, high = (group for _, group in cells.groupby("budget"))
    assert low["shots"].nunique() > 1, "the splits are too even for this test"
    for group, ratio in ((low, 0.2), (high, 0.5)):
        assert len(group) == 6
        assert group["budget"].iloc[0] == round(group.drop_duplicates("split_seed")["shots"].median())
        assert (group["data_ratio"] - ratio).abs().max() < 0.02
    rows = cells.assign(error=None, bundle="b", val_srcc=[0.9 if c == 1.0 else 0.1 for c in cells["lambda"]])
    rows.loc[rows["shots"] == rows["shots"].max(), "val_srcc"] = [0.95, 0.05]  # one split of three
    assert grid.choose(rows).strength == 1.0


def test_a_finished_trial_takes_the_budget_of_the_grid_it_is_part_of(tmp_path):
    """With other split seeds, a ratio's median number of shots may be another."""
    trial = Trial(strength=1.0, shots=40, budget=42, data_ratio=0.2, split_seed=0)
    folder, identity = SweepFolder(locate(tmp_path)), Identity.of({"seed": 0})
    measured = TrialResult(val_srcc=0.5, srcc=0.6, epochs=3, seconds=1.0, bundle="b")
    folder.trial(trial.name).finish(identity, {**trial.as_row(), **dataclasses.asdict(measured)})
    row = grid_run._collect(folder, [dataclasses.replace(trial, budget=44)], identity, {}).iloc[0]
    assert (row["budget"], row["shots"], row["srcc"]) == (44, 40, 0.6)
    assert row["bundle"] == folder.trial(trial.name).bundle.uri, "where it is now"


def test_trials_are_planned_without_the_images_that_cannot_be_read(tmp_path):
    """With ratio 1 of all label rows, there would be fewer images than shots."""
    target = datasets.load("table", str(labelled_folder(tmp_path / "target")))
    folder, identity = SweepFolder(locate(tmp_path / "sweep")), Identity.of({"seed": 0})
    runner = Runner(Config(), None, target, by_reference(target.reference_ids), folder, identity)
    torn = {"path": "3.png", "reason": "torn"}  # as seen from the target's root, which may move
    assert target.image_paths[3].endswith("/3.png")
    folder.write_unreadable(identity, [torn])
    assert runner.protocol.splits.reference_ids == (*target.reference_ids[:3], *target.reference_ids[4:])
    assert runner.unreadable == [torn]


def test_what_comes_to_the_same_trial_twice_is_refused():
    ids = by_reference(map(str, range(20)))
    for twice in ({"ratios": (0.5, 0.51)}, {"shots": (5, 5)}, {"shots": (5,), "split_seeds": (1, 1)}):
        with pytest.raises(InputError, match="two trials lambda=0-shots="):
            grid.plan_trials(Config(sweep=SweepConfig(**twice)), ids)


def test_trials_are_packed_by_memory_and_by_fractions_of_a_device(monkeypatch):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8, "memory": 4e9, "GPU": 1}},
        {"Alive": True, "Resources": {"CPU": 2, "memory": 64e9}},
        {"Alive": False, "Resources": {"CPU": 64, "memory": 64e9}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert how_many_fit({"CPU": 1, "GPU": 0}) == 10
    assert how_many_fit({"CPU": 1, "GPU": 0, "memory": 1.5e9}) == 4
    assert how_many_fit({"CPU": 0.1, "GPU": 0.1}) == 10
    assert how_many_fit({"CPU": 1, "memory": 65e9}) == 0


@pytest.fixture(scope="module")
def config(tmp_path_factory, ray_instance, mlflow_store) -> Config:
    """With pre-trained prompts. One image of the target is damaged."""
    folder = tmp_path_factory.mktemp("search")
    labels = labelled_folder(folder / "target")
    (folder / "target" / "3.png").write_bytes(b"no picture")
    config = Config(
        output=str(folder / "run"),
        views=ViewConfig(train_views=2, score_grid=1),
        synthesize=SynthesizeConfig(references=5, tasks=("white_noise",)),
        meta=MetaConfig(outer_steps=1, batch_size=3),
        pretrain=PretrainConfig(workers=0),
        target=TargetConfig(path=str(labels), score_min=0.0, score_max=10.0, max_reject_fraction=0.2),
        adapt=AdaptConfig(epochs=3, folds=2),
        tracking=TrackingConfig(uri=mlflow_store.uri),
        sweep=SweepConfig(
            search="random",
            space=RATE,
            samples=5,
            asha=True,
            lambdas=(0.0, 5.0),
            shots=(6,),
            split_seeds=(0, 1),
            cpus_per_trial=2,  # one at a time: no worker is started to measure the memory of a trial
        ),
    )
    synthesize(config)
    pretrain_prompts(config)
    return config


@pytest.fixture(scope="module")
def swept(config) -> sweep_run.Sweep:
    return run_sweep(config)


@pytest.mark.ray
def test_a_search_is_settled_by_validation_and_the_grid_runs_with_the_winner(config, swept):
    rows = swept.searched.rows
    assert len(rows) == 5
    assert rows["error"].isna().all()
    assert set(rows["shots"]) == {6}
    assert set(rows["split_seed"]) == {0}
    assert "srcc" not in rows
    able = rows[~rows["stopped"]]
    winner = rows[rows["won"]].iloc[0]
    assert winner["val_srcc"] == able["val_srcc"].max()
    assert (rows[rows["stopped"]]["epochs"] < config.adapt.epochs).all()
    assert swept.results["adapt.lr"].unique().tolist() == [winner["adapt.lr"]]
    assert len(swept.results) == 4
    assert swept.results["srcc"].notna().all()
    assert not list(Path(swept.folder).glob("search/*/predictions.parquet"))


@pytest.mark.ray
def test_the_same_command_again_does_nothing_and_forgets_nothing(config, swept):
    files = [*Path(swept.folder).glob("trials/*/trial.json"), *Path(swept.folder).glob("search/*/trial.json")]
    before = {file: file.stat().st_mtime_ns for file in files}
    again = run_sweep(dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, resume=True)))
    assert {file: file.stat().st_mtime_ns for file in files} == before
    pd.testing.assert_frame_equal(again.results, swept.results)
    pd.testing.assert_frame_equal(again.searched.rows, swept.searched.rows)
    manifest = json.loads((Path(swept.folder) / "manifest.json").read_text())
    assert [Path(reject["path"]).name for reject in manifest["rejected"]] == ["3.png"]
    assert manifest["inputs"]["settings"] == again.searched.settings
    assert manifest["counts"]["searched"] == 5
    assert again.chosen.settings == again.searched.settings
    assert again.searched.text in (Path(swept.folder) / "report.md").read_text()
    assert "Settings tried by the search" in (Path(swept.folder) / "report.html").read_text()


@pytest.mark.ray
def test_the_grid_after_a_search_is_the_grid_with_these_settings(config, swept):
    """And the search's number is the grid's: the same labels, the same validation."""
    settled = with_settings(config, swept.searched.settings)
    plain = dataclasses.replace(settled, sweep=SweepConfig(lambdas=(0.0, 5.0), shots=(6,), split_seeds=(0, 1)))
    markers = {path: path.stat().st_mtime_ns for path in Path(swept.folder).glob("trials/*/trial.json")}
    again = run_sweep(plain)
    assert len(markers) == 4
    assert all(path.stat().st_mtime_ns == old for path, old in markers.items())
    at_5 = again.results.query("`lambda` == 5 and split_seed == 0")["val_srcc"].item()
    assert at_5 == swept.searched.rows.query("won")["val_srcc"].item()  # adapt.qgr.strength is 5, too


@pytest.mark.ray
@pytest.mark.slow
def test_optuna_goes_on_with_what_it_knows_and_keeps_what_diverges(config, capfd):
    space = {"adapt.lr": {"values": [0.01, 1e30]}, "adapt.qgr.strength": {"low": 0, "high": 6}}
    section = SweepConfig(search="optuna", space=space, samples=3, shots=(6,), split_seeds=(0,))
    first = run_sweep(dataclasses.replace(config, sweep=section))
    more = run_sweep(dataclasses.replace(config, sweep=dataclasses.replace(section, samples=6)))
    assert set(first.searched.rows["trial"]) < set(more.searched.rows["trial"])
    assert len(more.searched.rows) == 6
    wild = more.searched.rows[more.searched.rows["adapt.lr"] == 1e30]
    assert len(wild)
    assert wild["error"].notna().all()
    assert more.results["lambda"].unique().tolist() == [more.searched.settings["adapt.qgr.strength"]]
    assert "6 settings, 3 already finished" in capfd.readouterr().err


@pytest.mark.ray
@pytest.mark.parametrize("seed", [0, 1])
def test_resume_with_nothing_to_resume_says_so(config, swept, tmp_path, capsys, seed):
    """In an empty place, and where a sweep of other settings has begun."""
    output = tmp_path if seed == 0 else Path(config.output)
    if seed == 0:
        (tmp_path / "pretrain").symlink_to(Path(config.output) / "pretrain")
    settings = [f"output={output}", f"target.path={config.target.path}", f"seed={seed}", "target.score_min=0"]
    arguments = [
        part for setting in [*settings, "target.score_max=10", "sweep.shots=[6]"] for part in ("--set", setting)
    ]
    assert run_command("sweep", [*arguments, "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err.strip().splitlines()[-1]

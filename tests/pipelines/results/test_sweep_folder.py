"""A sweep's folder: what is written is what is read, in typed columns, and by this version only."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grmp_core.errors import InputError
from grmp_core.identity import Identity
from grmp_core.storage import locate
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import RESULTS, SEARCH, results_frame, search_frame
from pipelines.results.trial import Choice, SettingResult, Trial, TrialResult, folder_name, setting_name

IDENTITY = Identity.of({"adapt.lr": 0.01})
TRIAL = Trial(strength=2.0, shots=10, budget=12, data_ratio=0.1, split_seed=3)
MEASURED = TrialResult(val_srcc=0.5, srcc=0.1 + 0.2, logistic_converged=True, epochs=4, seconds=1.5, bundle="elsewhere")
CHOICE = Choice(strength=2.0, settings=None, shots=10, trial=TRIAL.name, bundle="there", reason="the only one")


@pytest.fixture
def folder(tmp_path) -> SweepFolder:
    return SweepFolder.of(str(tmp_path))


def test_results_have_the_same_types_with_and_without_rows(folder):
    failed = (dataclasses.replace(TRIAL, strength=0.0), TrialResult(error="died"))
    types = results_frame([]).dtypes
    for rows in ([], [(TRIAL, MEASURED)], [failed], [(TRIAL, MEASURED), failed]):
        frame = results_frame(rows)
        assert tuple(frame.columns) == RESULTS.columns
        assert frame.dtypes.equals(types)
        folder.write_results(frame, None)
        pd.testing.assert_frame_equal(folder.read().trials, frame.sort_values("lambda", ignore_index=True))
        schema = pq.read_schema(io.BytesIO((folder.root / "results.parquet").read_bytes()))
        assert {name: schema.field(name).type for name in RESULTS.columns} == {**RESULTS.before, **RESULTS.after}


def test_the_error_of_a_good_trial_is_null_in_every_form(folder):
    frame = results_frame(
        [(TRIAL, MEASURED), (dataclasses.replace(TRIAL, shots=20, budget=20), TrialResult(error="x"))]
    )
    folder.write_results(frame, None)
    assert frame["error"].isna().tolist() == [True, False]
    assert pq.read_table(folder.root.path + "/results.parquet")["error"].to_pylist() == [None, "x"]
    assert [row["error"] for row in json.loads(frame.to_json(orient="records"))] == [None, "x"]
    assert pd.read_csv(folder.root.path + "/results.csv")["error"].isna().tolist() == [True, False]


def test_a_setting_with_many_keys_has_a_folder_that_can_be_made(folder):
    many = {f"adapt.trainable.some_setting_{i}": 0.1 + i for i in range(12)}
    other = {**many, "adapt.trainable.some_setting_9": 0.2}
    names = {setting_name(many), setting_name(dict(reversed(many.items()))), setting_name(other)}
    assert len(names) == 2, "one name a setting, whatever the order of its keys"
    assert all(len(name) == 150 and name.startswith("adapt.trainable.some_setting_0=0.1,") for name in names)
    for settings in (many, other):
        result = SettingResult(settings=settings, shots=10, split_seed=3, val_srcc=0.5)
        folder.setting(settings).finish(IDENTITY, result.as_row())
        assert folder.setting(settings).setting_result(IDENTITY) == result
    assert len(folder.settings_tried()) == 2


@pytest.mark.parametrize("length", [20, 255])
def test_names_that_file_systems_take_stay_as_they_are(folder, length):
    settings = {"adapt.head": "x" * (length - len("adapt.head="))}
    assert folder.setting(settings).root.name == setting_name(settings) == f"adapt.head={settings['adapt.head']}"


def test_a_long_name_of_letters_of_several_bytes_is_short_enough():
    assert len(folder_name("ä" * 200).encode()) <= 150
    assert folder_name("a" + "ä" * 200) != folder_name("a" + "ä" * 201)


def test_settings_of_a_search_are_columns_behind_the_trial_s(folder):
    trial = dataclasses.replace(TRIAL, settings={"adapt.lr": 0.1, "adapt.epochs": 7, "adapt.qgr.scope": "global"})
    frame = results_frame([(trial, MEASURED)])
    assert list(frame.columns) == [*RESULTS.before, *trial.settings, *RESULTS.after]
    folder.write_results(frame, None)
    row = folder.read().trials.iloc[0]
    assert {key: row[key] for key in trial.settings} == trial.settings


def test_a_table_that_lacks_a_column_is_neither_written_nor_read(folder):
    frame = results_frame([(TRIAL, MEASURED)])
    with pytest.raises(KeyError, match=r"results\.parquet lacks krcc"):
        folder.write_results(frame.drop(columns="krcc"), None)
    earlier = pa.Table.from_pandas(frame.drop(columns=["krcc", "epochs"]))
    folder.root.make_parent()
    (folder.root / "results.parquet").write_bytes(b"")  # makes the folder
    pq.write_table(earlier, folder.root.path + "/results.parquet")
    with pytest.raises(InputError, match=r"lacks the columns krcc, epochs; .* run grmp sweep again"):
        folder.read()


def test_a_finished_trial_is_read_back_for_the_same_identity_only(folder):
    trial = folder.trial(TRIAL.name)
    assert trial.result(IDENTITY) is None
    trial.finish(IDENTITY, {**TRIAL.as_row(), **dataclasses.asdict(MEASURED)})
    result = trial.result(IDENTITY)
    assert dataclasses.replace(result, bundle=MEASURED.bundle, plcc=0, plcc_logistic=0, krcc=0, rmse=0) == (
        dataclasses.replace(MEASURED, plcc=0, plcc_logistic=0, krcc=0, rmse=0)
    )
    assert all(math.isnan(value) for value in (result.plcc, result.plcc_logistic, result.krcc, result.rmse))
    assert result.bundle == trial.bundle.uri, "where it is now"
    assert trial.result(Identity.of({"adapt.lr": 0.02})) is None
    assert "NaN" not in (trial.root / "trial.json").read_bytes().decode()
    trial.begin()
    assert trial.result(IDENTITY) is None


def test_settings_that_were_tried_are_read_back_and_listed_best_first(folder):
    common = {"shots": 5, "split_seed": 0}
    tried = [
        SettingResult(settings={"adapt.lr": 0.1, "adapt.epochs": 3}, val_srcc=0.4, **common),
        SettingResult(settings={"adapt.lr": 0.2, "adapt.epochs": 3}, val_srcc=0.6, stopped=True, **common),
        SettingResult(settings={"adapt.lr": 0.3, "adapt.epochs": 4}, error="is not finite", **common),
    ]
    for result in tried:
        folder.setting(result.settings).finish(IDENTITY, result.as_row())
    again = [one.setting_result(IDENTITY) for one in folder.settings_tried()]
    assert sorted(result.name for result in again) == sorted(result.name for result in tried)
    assert again[0].settings == tried[0].settings
    assert [result.eligible for result in tried] == [True, False, False]
    frame = search_frame(tried, tried[0])
    assert frame["adapt.lr"].tolist() == [0.2, 0.1, 0.3]
    assert frame["won"].tolist() == [False, True, False]
    assert frame["error"].isna().tolist() == [True, True, False]
    assert tuple(search_frame([], None).columns) == SEARCH.columns


@pytest.mark.parametrize("settings", [None, {"adapt.lr": 0.1}])
def test_the_choice_is_read_back(folder, settings):
    assert folder.chosen() is None
    chosen = dataclasses.replace(CHOICE, settings=settings)
    folder.write_results(results_frame([(TRIAL, MEASURED)]), chosen)
    assert folder.chosen() == folder.read().chosen == chosen
    assert (folder.root / "chosen.json").read_json()["lambda"] == 2.0
    folder.write_results(results_frame([(TRIAL, TrialResult(error="died"))]), None)
    assert folder.chosen() is None
    (folder.root / "chosen.json").write_json({"lambda": 1})
    with pytest.raises(InputError, match=r"chosen\.json does not say what the sweep chose"):
        folder.chosen()


def test_a_sweep_with_other_settings_leaves_no_result_of_the_one_before(folder):
    """Else a chosen model could be registered whose trial is being replaced."""
    assert folder.begun() is None
    assert folder.begin(IDENTITY) == 0
    assert folder.begun() == IDENTITY.record()
    for name in ("chosen.json", "results.parquet", "report.html", "mine.txt"):
        (folder.root / name).write_bytes(b"{}")
    (folder.root / "manifest.json").write_json({"inputs": {"identity": IDENTITY.digest}, "seconds": 12.5})
    assert folder.begin(IDENTITY) == 12.5
    assert (folder.root / "chosen.json").exists()
    other = Identity.of({"adapt.lr": 0.02})
    assert folder.begin(other) == 0
    assert [file.name for file in folder.root.list()] == ["identity.json", "mine.txt"]
    assert folder.begun() == other.record()


def test_sweeps_of_other_versions_are_refused_with_the_way_out(folder):
    (folder.root / "begun.json").write_json({"identity": "0a1b2c3d4e"})
    with pytest.raises(InputError, match=r"holds a sweep of an earlier version.*choose another output, or delete"):
        folder.begun()
    (folder.root / "identity.json").write_json({"version": 99, "settings": {}})
    with pytest.raises(InputError, match="has identity format 99, this program reads 1"):
        folder.begun()


def test_images_that_cannot_be_read_are_kept_for_one_sweep(folder):
    assert folder.unreadable(IDENTITY) is None
    folder.write_unreadable(IDENTITY, [{"path": "torn.png", "reason": "truncated"}])
    assert folder.unreadable(IDENTITY) == [{"path": "torn.png", "reason": "truncated"}]
    assert folder.unreadable(Identity.of({"adapt.lr": 0.02})) is None


def test_the_folder_is_below_the_output(tmp_path):
    assert SweepFolder.of(str(tmp_path)).uri == (locate(tmp_path) / "sweep").uri

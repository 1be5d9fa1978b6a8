"""Two sweeps side by side, of a known law."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.paired_inference import FoldPredictions, paired_difference
from pipelines.cli import run_command
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import ReportConfig
from pipelines.reporting.sweep_comparison import compare_sweeps
from pipelines.results.sweep_folder import SweepFolder
from tests.pipelines.sweep_files import write_sweep

SMALL = {"seeds": (0, 1, 2), "n_test": 60, "images": False}


def comparing(folder: Path, *names: str) -> Config:
    return Config(output=str(folder / "out"), report=ReportConfig(compare=tuple(str(folder / name) for name in names)))


def test_the_difference_is_that_of_the_predictions_on_the_same_images(tmp_path):
    write_sweep(tmp_path / "a", lambdas=(2.0,), shots=(10, 200), config={"adapt": {"lr": 1}, "output": "a"}, **SMALL)
    write_sweep(tmp_path / "b", lambdas=(10.0,), shots=(200, 400), config={"adapt": {"lr": 2}, "output": "b"}, **SMALL)
    for seed in range(3):  # the same human scores in both: made-up ones differ
        ours, theirs = (
            SweepFolder.of(str(tmp_path / name)).trial(f"lambda={strength}-shots=200-seed={seed}")
            for name, strength in (("a", 2), ("b", 10))
        )
        theirs.write_predictions(theirs.read_predictions().assign(mos=ours.read_predictions()["mos"]))
    found = compare_sweeps(comparing(tmp_path, "a", "b"))
    (row,) = found.rows
    differences = []
    for seed in range(3):
        pair = [
            SweepFolder.of(str(tmp_path / name)).trial(f"lambda={strength}-shots=200-seed={seed}").read_predictions()
            for name, strength in (("a", 2), ("b", 10))
        ]
        a, b = (float(srcc(t["mos_scale_score"].to_numpy(), t["mos"].to_numpy())) for t in pair)
        differences.append(a - b)
    assert row["difference"] == pytest.approx(np.mean(differences))
    assert row["low"] < row["difference"] < row["high"]
    assert (row["labels"], row["draws"], row["images"]) == (200, 3, 180)
    assert found.settings == (("adapt.lr", "1", "2"),)
    assert f"{row['difference']:+.3f}" in Path(found.path_md).read_text()
    assert "adapt.lr" in Path(found.path_html).read_text()


def test_medians_are_over_the_splits_that_are_compared_and_the_others_are_counted(tmp_path):
    for name in ("a", "b"):
        write_sweep(tmp_path / name, lambdas=(2.0,), shots=(10,), **SMALL)
    a, b = (SweepFolder.of(str(tmp_path / name)) for name in ("a", "b"))
    trials = [f"lambda=2-shots=10-seed={seed}" for seed in range(3)]
    b.trial(trials[0]).write_predictions(b.trial(trials[0]).read_predictions().head(1))
    found = compare_sweeps(comparing(tmp_path, "a", "b"))
    kept = a.read().finished.set_index("split_seed").loc[[1, 2], "srcc"]
    (row,) = found.rows
    assert (row["a"], row["draws"], found.left_out) == (pytest.approx(kept.median()), 2, 1)
    for text in (found.as_text(), Path(found.path_md).read_text(), Path(found.path_html).read_text()):
        assert "1 shared splits are left out" in text


def test_splits_that_share_their_test_part_are_draws_of_one_fold(tmp_path):
    for name in ("a", "b"):
        write_sweep(tmp_path / name, lambdas=(2.0,), shots=(10,), **SMALL)
    mos, rng, scores = np.linspace(0, 100, 60), np.random.default_rng(0), {}
    for name in ("a", "b"):
        scores[name] = mos + rng.normal(0, 40, (3, 60))
        for seed in range(3):
            trial = SweepFolder.of(str(tmp_path / name)).trial(f"lambda=2-shots=10-seed={seed}")
            table = trial.read_predictions().assign(mos=mos, mos_scale_score=scores[name][seed])
            trial.write_predictions(table.sample(frac=1, random_state=seed))  # in any order
    (row,) = compare_sweeps(comparing(tmp_path, "a", "b")).rows
    names = np.array([f"/nowhere/{i:03d}.jpg" for i in range(60)])
    expected = paired_difference([FoldPredictions(names, mos, scores["a"], scores["b"])])
    assert {key: row[key] for key in asdict(expected)} == pytest.approx(asdict(expected))
    assert (row["draws"], row["images"]) == (3, 60)


def test_a_sweep_and_itself_are_equal_on_the_command_line(tmp_path, capsys):
    write_sweep(tmp_path / "a", lambdas=(0.0, 2.0), shots=(50,), **SMALL)
    arguments = [str(tmp_path / "a"), str(tmp_path / "a"), "--set", f"output={tmp_path / 'out'}"]
    assert run_command("report", arguments) == 0
    assert "+0.000 [+0.000, +0.000]" in capsys.readouterr().out


def test_one_output_is_reported_alone(tmp_path, capsys):
    write_sweep(tmp_path / "a", lambdas=(2.0,), shots=(10,), **SMALL)
    assert run_command("report", [str(tmp_path / "a")]) == 0
    assert str(tmp_path / "a" / "sweep" / "report.html") in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(tmp_path):
    write_sweep(tmp_path / "a", lambdas=(2.0,), shots=(10,), **SMALL)
    write_sweep(tmp_path / "b", lambdas=(2.0,), shots=(25,), **SMALL)
    with pytest.raises(InputError, match="share no split and number of labels"):
        compare_sweeps(comparing(tmp_path, "a", "b"))
    with pytest.raises(InputError, match="names 1 sweeps"):
        compare_sweeps(comparing(tmp_path, "a"))

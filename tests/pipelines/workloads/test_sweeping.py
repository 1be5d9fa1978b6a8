"""Sweeps: every cell has its row, once, whatever happens in between."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from safetensors.torch import save_file

from grmp_core.errors import InputError
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import read_bundle
from grmp_core.model.settings import EMBEDDED, BackboneConfig, TrainableConfig
from grmp_core.storage import locate
from pipelines.cli import run_command
from pipelines.configuration.loading import as_dict
from pipelines.configuration.scoring import ScoreConfig
from pipelines.configuration.sweeping import SweepConfig
from pipelines.few_shot.adaptation_run import adapt_to_all_labels
from pipelines.results.sweep_folder import SweepFolder
from pipelines.scoring import batch_scorer
from pipelines.scoring.target_evaluation import evaluate_target
from pipelines.sweeping.sweep_run import run_sweep
from pipelines.sweeping.trial_pool import Runner
from tests.pipelines.workloads.small import ROOT, moved

pytestmark = pytest.mark.ray


def test_a_sweep_has_a_row_for_every_cell(swept):
    assert swept.results["trial"].tolist() == ["lambda=0-shots=6-seed=0", "lambda=5-shots=6-seed=0"]
    assert swept.results["error"].isna().all()
    assert not list(Path(swept.folder).glob("tune-*")), "Tune's own files are of no more use"
    assert swept.results["srcc"].between(-1, 1).all()
    assert swept.chosen is not None
    best = swept.results.sort_values("val_srcc", ascending=False, kind="stable").iloc[0]
    assert swept.chosen.strength == best["lambda"]


def test_labels_where_less_is_better_give_the_same_model_and_the_same_numbers(config, swept, output, prompts):
    labels = pd.read_csv(config.target.path)
    upside_down = Path(config.target.path).with_name("dmos.csv")
    labels.assign(mos=10 - labels["mos"]).to_csv(upside_down, index=False)
    dmos = dataclasses.replace(
        moved(config, output, "dmos"),
        target=dataclasses.replace(config.target, path=str(upside_down), higher_is_better=False),
        sweep=dataclasses.replace(config.sweep, lambdas=(5.0,)),
    )
    (Path(dmos.output) / "pretrain").symlink_to(Path(config.output) / "pretrain")
    dmos_sweep = run_sweep(dmos)
    same = swept.results[swept.results["lambda"] == 5.0].reset_index(drop=True)
    columns = ["trial", "val_srcc", "srcc", "plcc"]
    pd.testing.assert_frame_equal(dmos_sweep.results[columns], same[columns], atol=1e-6)
    evaluation = evaluate_target(
        dataclasses.replace(dmos, score=ScoreConfig(model=dmos_sweep.results.iloc[0]["bundle"]))
    )
    assert math.isnan(evaluation.srcc_low)  # from fewer than ten images
    rising = dataclasses.replace(config, score=ScoreConfig(model=dmos_sweep.results.iloc[0]["bundle"]))
    assert evaluate_target(rising).scores.srcc == pytest.approx(evaluation.scores.srcc)
    assert f"SRCC is {dmos_sweep.results['srcc'].item():.3f}" in (Path(dmos_sweep.folder) / "report.md").read_text()


def test_a_sweep_that_is_refused_leaves_the_one_before_alone(config, swept):
    before = {path: path.read_bytes() for path in Path(swept.folder).glob("*.*")}
    other = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, lr=0.02))
    too_much = dataclasses.replace(other, sweep=dataclasses.replace(config.sweep, gpus_per_trial=1))
    with pytest.raises(InputError, match="GPU"):
        run_sweep(too_much)
    off = TrainableConfig(text_context=False, visual_prompts=False, vision_blocks=0, text_blocks=0, final_norms=False)
    nothing = dataclasses.replace(other, adapt=dataclasses.replace(config.adapt, trainable=off))
    with pytest.raises(InputError, match="nothing would be learned"):
        run_sweep(nothing)
    assert {path: path.read_bytes() for path in Path(swept.folder).glob("*.*")} == before


@pytest.mark.parametrize("run", [run_sweep, adapt_to_all_labels])
def test_prompts_of_another_backbone_are_refused_before_anything_starts(config, output, prompts, run, tmp_path):
    weights = tmp_path / "weights.safetensors"
    state = load_backbone(BackboneConfig()).clip.state_dict()
    save_file({**state, "visual.head.proj.weight": -state["visual.head.proj.weight"]}, weights)
    other = dataclasses.replace(config, backbone=BackboneConfig(name=EMBEDDED, checkpoint=str(weights)))
    with pytest.raises(InputError, match="of pre-training"):
        run(other)


def test_a_bundle_of_the_sweep_scores_the_test_images_as_the_trial_did(config, swept):
    for trial in swept.results.itertuples():
        predictions = SweepFolder.of(config.output).trial(trial.trial).read_predictions()
        bundle = read_bundle(locate(trial.bundle))
        frame = batch_scorer.score_paths(config, bundle, trial.bundle, predictions["image_path"].tolist())
        np.testing.assert_allclose(frame["quality"], predictions["quality"], atol=1e-5)
        assert frame["unlike"].tolist() == (predictions["excess"] > 0).tolist()


@pytest.mark.slow
def test_finished_trials_are_not_run_again_and_failed_ones_are(config, swept):
    markers = {path: path.stat().st_mtime_ns for path in Path(swept.folder).glob("trials/*/trial.json")}
    lost = next(path for path in markers if "lambda=5" in str(path))
    lost.unlink()
    again = run_sweep(config)
    pd.testing.assert_frame_equal(
        again.results.drop(columns="seconds"), swept.results.drop(columns="seconds"), check_exact=True
    )
    assert {path for path, old in markers.items() if path.stat().st_mtime_ns != old} == {lost}


def test_a_setting_that_is_added_with_a_default_runs_no_trial_and_neither_does_another_lambda_of_adapt(
    config, swept, monkeypatch
):
    wider = dataclasses.make_dataclass(
        "AdaptConfig", [("momentum", float, 0.0)], bases=(AdaptConfig,), frozen=True, kw_only=True
    )
    fields = {field.name: getattr(config.adapt, field.name) for field in dataclasses.fields(config.adapt)}
    later = wider(**{**fields, "qgr": dataclasses.replace(config.adapt.qgr, strength=1.0)})
    markers = {path: path.stat().st_mtime_ns for path in Path(swept.folder).glob("trials/*/trial.json")}

    def refuse(runner, group):
        raise AssertionError(f"{group.total} trials were run")

    monkeypatch.setattr(Runner, "run", refuse)
    again = run_sweep(dataclasses.replace(config, adapt=later))
    pd.testing.assert_frame_equal(again.results, swept.results)
    assert {path: path.stat().st_mtime_ns for path in markers} == markers
    assert SweepFolder.of(config.output).begun()["settings"]["adapt.momentum"] == 0.0


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_is_finished_by_the_same_command(config, output, prompts):
    grid = SweepConfig(lambdas=(0.0, 1.0, 5.0), shots=(6,), split_seeds=(0, 1))
    killed, whole = (dataclasses.replace(moved(config, output, name), sweep=grid) for name in ("cut_short", "whole"))
    for one in (killed, whole):
        (Path(one.output) / "pretrain").symlink_to(Path(config.output) / "pretrain")
    file = Path(killed.output) / "config.yaml"
    file.write_text(yaml.safe_dump(as_dict(killed)))
    command = ["--config", str(file), "--set", "adapt.epochs=6"]
    sweep = [sys.executable, "-m", "pipelines.sweep", *command]
    exit_code_after_the_first_trial(sweep, Path(killed.output) / "sweep", signal.SIGKILL)

    markers = {path: path.stat().st_mtime_ns for path in Path(killed.output).glob("sweep/trials/*/trial.json")}
    assert 0 < len(markers) < 6, "the sweep was over before it could be killed"
    assert not (Path(killed.output) / "sweep" / "manifest.json").exists()
    assert run_command("sweep", [*command, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in markers} == markers
    expected = run_sweep(dataclasses.replace(whole, adapt=dataclasses.replace(config.adapt, epochs=6))).results
    results = pd.read_parquet(Path(killed.output) / "sweep" / "results.parquet")
    own = ["seconds", "bundle"]
    pd.testing.assert_frame_equal(results.drop(columns=own), expected.drop(columns=own), check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_codes"), [(signal.SIGINT, [-signal.SIGINT, 130]), (signal.SIGUSR1, [1])])
def test_an_interrupted_sweep_chooses_nothing_and_goes_on_later(config, output, prompts, number, exit_codes):
    grid = SweepConfig(lambdas=(0.0, 1.0, 5.0), shots=(6,), split_seeds=(0, 1))
    ended = dataclasses.replace(moved(config, output, f"ended by {number.name}"), sweep=grid)
    (Path(ended.output) / "pretrain").symlink_to(Path(config.output) / "pretrain")
    file, folder = Path(ended.output) / "config.yaml", Path(ended.output) / "sweep"
    file.write_text(yaml.safe_dump(as_dict(ended)))
    command = ["--config", str(file), "--set", "adapt.epochs=6"]
    sweep = [sys.executable, "-m", "pipelines.sweep", *command]
    assert exit_code_after_the_first_trial(sweep, folder, number) in exit_codes
    assert 0 < len(list(folder.glob("trials/*/trial.json"))) < 6, "the sweep was over before it could be ended"
    assert not {"chosen.json", "manifest.json", "report.html"} & {path.name for path in folder.iterdir()}
    assert list(folder.glob("tune-*"))
    assert run_command("sweep", [*command, "--resume"]) == 0
    assert pd.read_parquet(folder / "results.parquet")["error"].isna().sum() == 6


def exit_code_after_the_first_trial(command: list[str], place: Path, number: signal.Signals) -> int:
    """Signal the driver; SIGKILL goes to its Ray and its workers, too, none of which can say goodbye."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not list(place.glob("trials/*/trial.json")):
            time.sleep(0.02)
        if number != signal.SIGKILL:
            process.send_signal(number)
            process.wait(timeout=120)
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(family)
        code = process.wait()
    return code


def test_more_shots_than_images_are_refused_before_anything_runs(config, prompts):
    greedy = dataclasses.replace(config, sweep=SweepConfig(shots=(500,)))
    with pytest.raises(InputError, match="500"):
        run_sweep(greedy)

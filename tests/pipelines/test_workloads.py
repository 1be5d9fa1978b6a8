"""The workloads on a real Ray, small: same results however the work is spread, interrupted, or submitted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
import ray
import torch
import yaml
from safetensors.torch import save_file

from grmp_core import references
from grmp_core.backbone import EMBEDDED, BackboneConfig, load_backbone
from grmp_core.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.errors import InputError
from grmp_core.meta import MetaConfig, MetaState
from grmp_core.model import TrainableConfig
from grmp_core.storage import Location, locate
from grmp_core.task_store import TaskStore
from grmp_core.tasks import plan_episode, prepare_reference, split_references, synthesize_row
from grmp_core.visibility import Appearance
from pipelines import adapt, evaluate, pretrain, score, sweep, synthesize
from pipelines.cli import run_command
from pipelines.config import (
    AdaptConfig,
    Config,
    PretrainConfig,
    ScoreConfig,
    SweepConfig,
    SynthesizeConfig,
    TargetConfig,
    ViewConfig,
    as_dict,
)
from pipelines.sources import scan_references
from tests.checkpoints import GOES_ON, has_checkpoint

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
TASKS = ("gaussian_blur", "white_noise")
NUM_IMAGES = 15


@pytest.fixture(scope="module")
def output(tmp_path_factory, ray_instance) -> Path:
    return tmp_path_factory.mktemp("workloads")


@pytest.fixture(scope="module")
def config(output) -> Config:
    return Config(
        output=str(output / "run"),
        views=ViewConfig(train_views=2, score_grid=2),
        synthesize=SynthesizeConfig(references=5, tasks=TASKS, references_per_block=2),
        meta=MetaConfig(outer_steps=4, batch_size=3, outer_lr=0.5),
        pretrain=PretrainConfig(workers=0, checkpoint_every=1),
        target=TargetConfig(path=str(labelled_folder(output / "target")), score_min=0, score_max=10),
        adapt=AdaptConfig(epochs=2, folds=2, lr=0.01),
        sweep=SweepConfig(lambdas=(0.0, 5.0), shots=(6,), split_seeds=(0,)),
    )


@pytest.fixture(scope="module")
def store(config) -> TaskStore:
    synthesize.run(config)
    return TaskStore(locate(config.output) / "tasks")


@pytest.fixture(scope="module")
def prompts(config, store) -> dict[str, torch.Tensor]:
    """Pre-training in one process, undisturbed: what every other way must equal."""
    return read_bundle(locate(pretrain.run(config).bundle)).parameters


def labelled_folder(folder: Path) -> Path:
    folder.mkdir()
    for i in range(NUM_IMAGES):
        height = 200 if i % 2 else 230  # every other one leaves no room for a second row of views
        write_png(folder / f"{i}.png", references.reference(500 + i, height, 260))
    frame = {"image": [f"{i}.png" for i in range(NUM_IMAGES)], "mos": np.linspace(1, 9, NUM_IMAGES)}
    pd.DataFrame(frame).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def write_png(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def moved(config: Config, output: Path, name: str, **pretraining) -> Config:
    """The same run with its own output and the shared task store."""
    folder = output / name
    folder.mkdir()
    (folder / "tasks").symlink_to(Path(config.output) / "tasks")
    return dataclasses.replace(config, output=str(folder), pretrain=dataclasses.replace(config.pretrain, **pretraining))


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], rtol: float = 1e-6) -> None:
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=rtol, atol=1e-9)


def test_the_store_is_what_one_process_makes(config, store):
    ids = [references.reference_id(i) for i in range(5)]
    parts = split_references(ids, 0.2, config.seed)
    plan = plan_episode("white_noise", 0, store.num_references, config.meta, config.seed)
    views, quality = store.read(plan, "support")
    for (index, level), view, label in zip(plan.support, views, quality, strict=True):
        name = store.reference_ids["support"][index]
        pristine = prepare_reference(references.reference(ids.index(name)), 224, 384)
        seen = Appearance(pristine)
        row = synthesize_row(pristine, name, parts[name], "white_noise", level, 224, config.seed, seen)
        assert np.array_equal(row.view_HW3, view)
        assert row.quality == pytest.approx(label)


def test_finished_blocks_are_not_made_again_and_other_settings_are_refused(config, store):
    files = sorted(Path(store.root.path).rglob("*.parquet"))
    before = [file.stat().st_mtime_ns for file in files]
    (Path(store.root.path) / "blocks" / "00001.json").unlink()
    again = synthesize.run(config)
    assert again.rows == 5 * 5 * len(TASKS)
    changed = {file.name for file, old in zip(files, before, strict=True) if file.stat().st_mtime_ns != old}
    assert changed == {"part-00001.parquet"}
    with pytest.raises(InputError, match="other settings"):
        synthesize.run(dataclasses.replace(config, seed=1))


def test_a_bad_photo_is_listed_and_too_many_are_refused(config, output):
    folder = output / "photos"
    folder.mkdir()
    for i in range(4):
        write_png(folder / f"{i}.png", references.reference(i, 230, 240))
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:2000])
    photos = SynthesizeConfig(source="photos", path=str(folder), references=0, tasks=("jpeg",), max_reject_fraction=0.3)
    one = dataclasses.replace(config, output=str(output / "from_photos"), synthesize=photos)
    done = synthesize.run(one)
    assert done.references == 4
    assert [Path(reject["path"]).name for reject in done.rejected] == ["torn.png"]
    manifest = json.loads((output / "from_photos" / "tasks" / "manifest.json").read_text())
    assert manifest["rejected"] == list(done.rejected)
    with pytest.raises(InputError, match=r"torn\.png"):
        synthesize.run(dataclasses.replace(one, synthesize=dataclasses.replace(photos, max_reject_fraction=0.1)))


def test_streamed_tasks_give_the_stored_tasks_prompts(config, output, prompts):
    streamed = moved(config, output, "streamed", episodes="stream")
    assert_same(read_bundle(locate(pretrain.run(streamed).bundle)).parameters, prompts)


def test_resumed_in_one_process_is_bit_for_bit_the_same(config, output, prompts):
    interrupted = moved(config, output, "interrupted")
    half = dataclasses.replace(interrupted, meta=dataclasses.replace(config.meta, outer_steps=2))
    kept = []
    pretrain.learn(half, None, torch.device("cpu"), None, lambda state, history: kept.append((state, list(history))))
    place = locate(output / "kept")
    pretrain.write_state(place, *kept[-1])
    restored = pretrain.read_state(place)
    state, history = pretrain.learn(interrupted, None, torch.device("cpu"), restored, lambda *a: None)
    assert [record["step"] for record in history] == [1, 2, 3, 4]
    for name, tensor in prompts.items():
        assert torch.equal(state.parameters[name], tensor)


@pytest.mark.slow
def test_a_run_that_another_process_ends_is_bit_for_bit_the_same(config, output, prompts, monkeypatch):
    cut = moved(config, output, "cut")
    write_state = pretrain.write_state

    def die(place: Location, state: MetaState, history: pretrain.History) -> None:
        write_state(place, state, history)
        if state.step == 2:
            raise RuntimeError("the end came early")

    monkeypatch.setattr(pretrain, "write_state", die)
    with pytest.raises(RuntimeError, match="came early"):
        pretrain.run(cut)
    file = Path(cut.output) / "config.yaml"
    file.write_text(yaml.safe_dump(as_dict(cut)))
    command = [sys.executable, "-m", "pipelines.pretrain", "--config", str(file)]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    assert f"{GOES_ON} 2" in log
    found = read_bundle(locate(cut.output) / "pretrain" / "bundle").parameters
    assert all(torch.equal(found[name], tensor) for name, tensor in prompts.items())
    assert len(list(Path(cut.output).glob("pretrain/state/*/*"))) == 2, "older checkpoints are of no use"


def test_prompts_of_other_weights_are_not_taken_for_finished(config, output, prompts):
    """The weights file stays where it is and gets other content."""
    weights, one = output / "weights.safetensors", moved(config, output, "weights")
    one = dataclasses.replace(one, backbone=BackboneConfig(name=EMBEDDED, checkpoint=str(weights)))
    state = load_backbone(BackboneConfig()).clip.state_dict()
    found = []
    for sign in (1, -1):
        save_file({**state, "visual.proj": sign * state["visual.proj"]}, weights)
        found.append(read_bundle(locate(pretrain.run(one).bundle)))
    assert found[0].backbone_sha256 != found[1].backbone_sha256
    name = next(iter(prompts))
    assert torch.equal(found[0].parameters[name], prompts[name])
    assert not torch.equal(found[1].parameters[name], prompts[name])


def test_prompts_say_which_pictures_the_store_was_made_of(config, output, store):
    """Not what the configuration of `pretrain` says, which need not repeat it."""
    other = moved(config, output, "other")
    (Path(other.output) / "tasks").unlink()
    shutil.copytree(store.root.path, Path(other.output) / "tasks")
    plan = locate(other.output) / "tasks" / "plan.json"
    assert plan.read_json()["source"] == "procedural"
    plan.write_json({**plan.read_json(), "source": "kadid10k"})
    short = dataclasses.replace(other, meta=dataclasses.replace(config.meta, outer_steps=1))
    assert read_bundle(locate(pretrain.run(short).bundle)).provenance["source"] == "kadid10k"


def test_the_last_checkpoint_is_read_and_one_before_it_stays(tmp_path):
    place = locate(tmp_path / "state")
    assert pretrain.read_state(place) is None
    for step in (1, 2, 10):
        state = MetaState(step, {"a": torch.full((2,), float(step))}, {"b": torch.zeros(1)})
        pretrain.write_state(place, state, [{"step": float(step)}])
    assert [file.name for file in place.list()] == ["step-0000002.pt", "step-0000010.pt"]
    state, history = pretrain.read_state(place)
    assert (state.step, history, state.parameters["a"].tolist()) == (10, [{"step": 10.0}], [10.0, 10.0])
    assert state.drifted["b"].tolist() == [0.0]


def test_a_store_of_another_rule_for_compositions_is_another_store(config, monkeypatch):
    usable, _ = scan_references(config)
    composed = dataclasses.replace(config, synthesize=dataclasses.replace(config.synthesize, tasks=("darken-jpeg",)))
    before = [synthesize.fingerprint(c, usable) for c in (config, composed)]
    monkeypatch.setattr(synthesize, "COMPOSITION_RULE", "all at one level")
    after = [synthesize.fingerprint(c, usable) for c in (config, composed)]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_half_a_store_is_refused(config, output, store):
    half = moved(config, output, "half")
    (Path(half.output) / "tasks").unlink()
    shutil.copytree(store.root.path, Path(half.output) / "tasks", ignore=shutil.ignore_patterns("*00001.parquet"))
    with pytest.raises(InputError, match="holds 3 of its 5 references: it was interrupted"):
        pretrain.run(half)


def test_two_workers_and_a_killed_one_give_one_process_prompts(config, store, output, capfd):
    longer = dataclasses.replace(config, meta=dataclasses.replace(config.meta, outer_steps=12))
    prompts = read_bundle(locate(pretrain.run(moved(longer, output, "alone")).bundle)).parameters
    spread = moved(longer, output, "killed", workers=2)
    killed: list[int] = []
    stop = threading.Event()
    thread = threading.Thread(target=kill_a_train_worker, args=(Path(spread.output), killed, stop))
    thread.start()
    try:
        result = pretrain.run(spread)
    finally:
        stop.set()
        thread.join()
    assert len(killed) == 1, "the run was over before a worker could be killed"
    assert GOES_ON in capfd.readouterr().err
    assert [record["step"] for record in result.history] == list(range(1, 13))
    assert_same(read_bundle(locate(result.bundle)).parameters, prompts)


def kill_a_train_worker(output: Path, killed: list[int], stop: threading.Event) -> None:
    """SIGKILL to one Ray Train worker as soon as there is a checkpoint to go on from."""
    while not stop.is_set():
        if has_checkpoint(output / "pretrain"):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any("RayTrainWorker" in part for part in process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        return
        time.sleep(0.02)


@pytest.fixture(scope="module")
def swept(config, prompts) -> sweep.Sweep:
    return sweep.run(config)


def test_a_sweep_has_a_row_for_every_cell(swept):
    assert swept.results["trial"].tolist() == ["lambda=0-shots=6-seed=0", "lambda=5-shots=6-seed=0"]
    assert swept.results["error"].isna().all()
    assert not list(Path(swept.place).glob("tune-*")), "Tune's own files are of no more use"
    assert swept.results["srcc"].between(-1, 1).all()
    assert swept.chosen is not None
    best = swept.results.sort_values("val_srcc", ascending=False, kind="stable").iloc[0]
    assert swept.chosen["lambda"] == best["lambda"]


def test_labels_where_less_is_better_give_the_same_model_and_the_same_numbers(config, swept, output, prompts):
    labels = pd.read_csv(config.target.path)
    upside_down = Path(config.target.path).with_name("dmos.csv")
    labels.assign(mos=10 - labels["mos"]).to_csv(upside_down, index=False)
    dmos = dataclasses.replace(
        moved(config, output, "dmos"),
        target=dataclasses.replace(config.target, path=str(upside_down), higher_is_better=False),
    )
    (Path(dmos.output) / "pretrain").symlink_to(Path(config.output) / "pretrain")
    found = sweep.run(dmos)
    pd.testing.assert_frame_equal(
        found.results[["trial", "val_srcc", "srcc", "plcc"]],
        swept.results[["trial", "val_srcc", "srcc", "plcc"]],
        atol=1e-6,
    )
    evaluation = evaluate.run(dataclasses.replace(dmos, score=ScoreConfig(model=found.results.iloc[0]["bundle"])))
    assert evaluation.srcc_low <= evaluation.scores.srcc <= evaluation.srcc_high
    rising = dataclasses.replace(config, score=ScoreConfig(model=found.results.iloc[0]["bundle"]))
    assert evaluate.run(rising).scores.srcc == pytest.approx(evaluation.scores.srcc)
    assert f"SRCC is {found.results['srcc'].max():.3f}" in (Path(found.place) / "report.md").read_text()


def test_a_sweep_that_is_refused_leaves_the_one_before_alone(config, swept):
    before = {path: path.read_bytes() for path in Path(swept.place).glob("*.*")}
    other = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, lr=0.02))
    too_much = dataclasses.replace(other, sweep=dataclasses.replace(config.sweep, gpus_per_trial=1))
    with pytest.raises(InputError, match="GPU"):
        sweep.run(too_much)
    off = TrainableConfig(text_context=False, visual_prompts=False, vision_blocks=0, text_blocks=0, final_norms=False)
    nothing = dataclasses.replace(other, adapt=dataclasses.replace(config.adapt, trainable=off))
    with pytest.raises(InputError, match="nothing would be learned"):
        sweep.run(nothing)
    assert {path: path.read_bytes() for path in Path(swept.place).glob("*.*")} == before


@pytest.mark.parametrize("run", [sweep.run, adapt.run])
def test_prompts_of_another_backbone_are_refused_before_anything_starts(config, output, prompts, run, tmp_path):
    weights = tmp_path / "weights.safetensors"
    state = load_backbone(BackboneConfig()).clip.state_dict()
    save_file({**state, "visual.proj": -state["visual.proj"]}, weights)
    other = dataclasses.replace(config, backbone=BackboneConfig(name=EMBEDDED, checkpoint=str(weights)))
    with pytest.raises(InputError, match="of pre-training"):
        run(other)


@pytest.mark.parametrize(
    ("meta", "workers", "message"),
    [
        ({"tasks_per_step": 30}, 2, "tasks_per_step 30 is more than the"),
        ({"resync": "never"}, 2, "use 1 worker, not 2"),
    ],
)
def test_pretraining_that_cannot_be_is_refused_before_workers_start(config, output, store, meta, workers, message):
    wrong = dataclasses.replace(
        config,
        meta=dataclasses.replace(config.meta, **meta),
        pretrain=dataclasses.replace(config.pretrain, workers=workers, max_failures=0),
    )
    with pytest.raises(InputError, match=message):
        pretrain.run(wrong)


def test_a_bundle_of_the_sweep_scores_the_test_images_as_the_trial_did(config, swept):
    for trial in swept.results.itertuples():
        predictions = pd.read_parquet(Path(swept.place) / "trials" / trial.trial / "predictions.parquet")
        bundle = read_bundle(locate(trial.bundle))
        frame = score.score_paths(config, bundle, trial.bundle, predictions["image_path"].tolist())
        np.testing.assert_allclose(frame["quality"], predictions["quality"], atol=1e-5)


@pytest.mark.slow
def test_finished_trials_are_not_run_again_and_failed_ones_are(config, swept):
    markers = {path: path.stat().st_mtime_ns for path in Path(swept.place).glob("trials/*/trial.json")}
    lost = next(path for path in markers if "lambda=5" in str(path))
    lost.unlink()
    again = sweep.run(config)
    pd.testing.assert_frame_equal(
        again.results.drop(columns="seconds"), swept.results.drop(columns="seconds"), check_exact=True
    )
    assert {path for path, old in markers.items() if path.stat().st_mtime_ns != old} == {lost}


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_is_finished_by_the_same_command(config, output, prompts):
    grid = SweepConfig(lambdas=(0.0, 1.0, 5.0), shots=(6,), split_seeds=(0, 1))
    killed, whole = (dataclasses.replace(moved(config, output, name), sweep=grid) for name in ("cut_short", "whole"))
    for one in (killed, whole):
        (Path(one.output) / "pretrain").symlink_to(Path(config.output) / "pretrain")
    file = Path(killed.output) / "config.yaml"
    file.write_text(yaml.safe_dump(as_dict(killed)))
    command = ["--config", str(file), "--set", "adapt.epochs=6"]
    kill_after_the_first_trial([sys.executable, "-m", "pipelines.sweep", *command], Path(killed.output) / "sweep")

    markers = {path: path.stat().st_mtime_ns for path in Path(killed.output).glob("sweep/trials/*/trial.json")}
    assert 0 < len(markers) < 6, "the sweep was over before it could be killed"
    assert not (Path(killed.output) / "sweep" / "manifest.json").exists()
    assert run_command("sweep", [*command, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in markers} == markers
    expected = sweep.run(dataclasses.replace(whole, adapt=dataclasses.replace(config.adapt, epochs=6))).results
    results = pd.read_parquet(Path(killed.output) / "sweep" / "results.parquet")
    own = ["seconds", "bundle"]
    pd.testing.assert_frame_equal(results.drop(columns=own), expected.drop(columns=own), check_exact=True)


def kill_after_the_first_trial(command: list[str], place: Path) -> None:
    """SIGKILL to the driver, its Ray and its workers, none of which can say goodbye."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not list(place.glob("trials/*/trial.json")):
            time.sleep(0.02)
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(family)
        process.wait()


def test_more_shots_than_images_are_refused_before_anything_runs(config, prompts):
    greedy = dataclasses.replace(config, sweep=SweepConfig(shots=(500,)))
    with pytest.raises(InputError, match="500"):
        sweep.run(greedy)


def test_gpus_that_are_not_there_are_refused_by_every_workload_that_wants_them(config, prompts):
    on_gpus = dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, gpus_per_trial=0.5))
    for workload in (sweep, adapt):
        with pytest.raises(InputError, match=r"wants 1 x 1 CPU and 0\.5 GPU; the cluster has .* lower sweep\.cpus"):
            workload.run(on_gpus)
    scoring = dataclasses.replace(config, score=ScoreConfig(gpus_per_worker=1, workers=3))
    place = locate(config.output) / "pretrain" / "bundle"
    many = [f"{i}.png" for i in range(score.FEW + 1)]
    with pytest.raises(InputError, match=r"scoring wants 3 x 1 GPU; the cluster has 0 GPU .* lower score\.workers"):
        score.score_paths(scoring, read_bundle(place), place.uri, many)


def test_adapt_evaluate_and_score_go_together(config, output, prompts):
    adapted = adapt.run(config)
    scoring = ScoreConfig(model=adapted.bundle, images=(str(output / "target"),), output=str(output / "s.csv"))
    chosen = dataclasses.replace(config, score=scoring)
    with pytest.raises(InputError, match=f"has learned from all {NUM_IMAGES} images .* that can be read"):
        evaluate.run(chosen)
    (output / "target" / "empty.jpg").write_bytes(b"")
    for i in range(3):
        write_png(output / "target" / f"more_{i}.png", references.reference(700 + i, 300, 250))
    scored = score.run(chosen)
    (output / "target" / "empty.jpg").unlink()
    assert len(scored.scores) == NUM_IMAGES + 4
    assert scored.scores["error"].notna().sum() == 1
    assert pd.read_csv(output / "s.csv")["image_path"].tolist() == scored.scores["image_path"].tolist()
    assert scored.scores["mos_scale_score"].dropna().between(0, 10).all()


def test_evaluation_leaves_out_what_the_model_has_learned_from(config, swept):
    trial = swept.results.iloc[0]
    evaluation = evaluate.run(dataclasses.replace(config, score=ScoreConfig(model=trial["bundle"])))
    assert evaluation.learned_from == trial["shots"] == 6
    assert evaluation.scores.n == NUM_IMAGES - 6
    assert evaluation.srcc_low <= evaluation.scores.srcc <= evaluation.srcc_high


def test_evaluation_says_when_a_model_does_not_name_its_labels(config, swept, output):
    bundle = read_bundle(locate(swept.results.iloc[0]["bundle"]))
    silent = {name: value for name, value in bundle.provenance.items() if name != LEARNED_FROM}
    write_bundle(locate(output / "silent"), dataclasses.replace(bundle, provenance=silent))
    evaluation = evaluate.run(dataclasses.replace(config, score=ScoreConfig(model=str(output / "silent"))))
    assert evaluation.learned_from is None
    assert evaluation.scores.n == NUM_IMAGES
    assert "does not say what it has learned from" in evaluation.as_text()


def test_a_target_that_the_prompts_know_the_scores_of_is_refused(config, output, prompts):
    known = moved(config, output, "known")
    bundle = read_bundle(locate(config.output) / "pretrain" / "bundle")
    taught = dataclasses.replace(bundle, provenance={**bundle.provenance, "source": "table"})
    write_bundle(locate(known.output) / "pretrain" / "bundle", taught)
    with pytest.raises(InputError, match="pre-trained on the scores of table"):
        sweep.run(known)
    adapted = dataclasses.replace(bundle, kind="model", provenance={"pretraining": {"source": "table"}})
    write_bundle(locate(known.output) / "bundle", adapted)
    with pytest.raises(InputError, match="pre-trained on the scores of table, so no image of it is new"):
        evaluate.run(dataclasses.replace(config, score=ScoreConfig(model=f"{known.output}/bundle")))
    with pytest.raises(InputError, match="pre-trained on the scores of table, so no image of it is new"):
        evaluate.run(dataclasses.replace(config, score=ScoreConfig(model=f"{known.output}/pretrain/bundle")))


def test_prompts_that_were_adapted_to_nothing_have_learned_from_no_image(config, prompts):
    model = f"{config.output}/pretrain/bundle"
    evaluation = evaluate.run(dataclasses.replace(config, score=ScoreConfig(model=model)))
    assert evaluation.learned_from == 0
    assert evaluation.scores.n == NUM_IMAGES


def test_a_name_that_is_not_utf8_costs_its_own_row_only(config, prompts, tmp_path):
    image = references.reference(1, 230, 260)
    write_png(tmp_path / "fine.png", image)
    os.rename(tmp_path / "fine.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    write_png(tmp_path / "fine.png", image)
    model = f"{config.output}/pretrain/bundle"
    scored = score.run(dataclasses.replace(config, score=ScoreConfig(images=(str(tmp_path),), model=model))).scores
    named = {Path(row.image_path).name: row for row in scored.itertuples()}
    assert set(named) == {"caf\\xe9.png", "fine.png"}
    assert "is not UTF-8" in named["caf\\xe9.png"].error
    assert pd.isna(named["fine.png"].error)
    assert 0 < named["fine.png"].quality < 1


def submitted(client, command: str, environment: dict, deadline: float) -> str:
    """Id of the job. On a busy machine a fresh Ray needs a while until it takes one."""
    while True:
        try:
            return client.submit_job(entrypoint=command, runtime_env=environment)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.time() > deadline:
                raise
            time.sleep(2)


def test_a_submitted_job_does_the_same_and_a_bad_one_says_why(config, output, store):
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(f"http://{ray._private.worker.global_worker.node.address_info['webui_url']}")
    settings = [f"output={output / 'job'}", "synthesize.references=4", "synthesize.tasks=[jpeg]"]
    command = f"{sys.executable} -m pipelines.synthesize --json " + " ".join(f"--set {setting}" for setting in settings)
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    deadline = time.time() + 240
    jobs = {
        "good": submitted(client, command, environment, deadline),
        "bad": submitted(client, command + " --set swep.shots=[1]", environment, deadline),
    }
    while time.time() < deadline and not all(client.get_job_status(job).is_terminal() for job in jobs.values()):
        time.sleep(1)
    assert client.get_job_status(jobs["good"]) == JobStatus.SUCCEEDED, client.get_job_logs(jobs["good"])
    assert TaskStore(locate(output / "job" / "tasks")).tasks == ("jpeg",)
    assert client.get_job_status(jobs["bad"]) == JobStatus.FAILED
    assert client.get_job_info(jobs["bad"]).driver_exit_code == 2
    assert "swep is unknown; did you mean sweep?" in client.get_job_logs(jobs["bad"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--set", "output=/tmp/grmp-nothing-here"], "no task store"),
        (["sweep", "--set", "output=/tmp/grmp-nothing-here"], "no pre-trained prompts"),
        (["score"], "nothing to score"),
        (["pretrain", "--config", "none.yaml"], "does not exist"),
        (["synthesize", "--set", "synthesize.tasks=[gausian_blur]"], "gaussian_blur"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, ray_instance):
    assert run_command(arguments[0], arguments[1:]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith(f"grmp {arguments[0]}: ")

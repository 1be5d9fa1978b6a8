"""Pre-training: the same prompts in one process, after an interruption, and by workers of which one is killed."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from grmp_core.errors import InputError
from grmp_core.learning.meta_pretraining import MetaState
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import read_bundle
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.storage import Location, locate
from pipelines.cli import run_command
from pipelines.configuration.loading import as_dict, with_settings
from pipelines.configuration.models import TrackingConfig
from pipelines.pretraining import checkpoints, pretraining_run, training_loop
from pipelines.pretraining.pretraining_run import pretrain_prompts
from pipelines.tracking.catching_up import log_outbox
from tests.checkpoints import GOES_ON
from tests.pipelines.workloads.small import ROOT, assert_same, kill_a_train_worker, moved

pytestmark = pytest.mark.ray


def test_streamed_tasks_give_the_stored_tasks_prompts(config, output, prompts):
    streamed = moved(config, output, "streamed", episodes="stream")
    assert_same(read_bundle(locate(pretrain_prompts(streamed).bundle)).parameters, prompts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"meta.loss": "msrcc"},
        {"meta.loss": "triplet", "prompts.coupled": True},
    ],
    ids=str,
)
def test_resumed_in_one_process_is_bit_for_bit_the_same(config, output, prompts, options):
    interrupted = with_settings(moved(config, output, f"interrupted{len(options)}"), options)
    half = dataclasses.replace(interrupted, meta=dataclasses.replace(interrupted.meta, outer_steps=2))
    kept = []
    training_loop.learn(
        half, None, torch.device("cpu"), None, lambda state, history: kept.append((state, list(history)))
    )
    place = locate(output / "kept")
    checkpoints.write_state(place, *kept[-1])
    restored = checkpoints.read_state(place)
    state, history = training_loop.learn(interrupted, None, torch.device("cpu"), restored, lambda *a: None)
    assert [record["step"] for record in history] == [1, 2, 3, 4]
    if options:
        whole, _ = training_loop.learn(interrupted, None, torch.device("cpu"), None, lambda *a: None)
        assert any(not torch.equal(whole.parameters[name], tensor) for name, tensor in prompts.items())
        prompts = whole.parameters
    assert state.parameters.keys() == prompts.keys()
    for name, tensor in prompts.items():
        assert torch.equal(state.parameters[name], tensor)


def test_a_store_that_breaks_during_the_run_costs_neither_the_result_nor_the_record(
    config, output, prompts, monkeypatch, capsys
):
    """Exit code 0 with a note, and `grmp sync` logs the run once there is a store again."""
    broken = dataclasses.replace(moved(config, output, "untracked"), tracking=TrackingConfig())
    folder = Path(broken.output)
    (folder / "config.yaml").write_text(yaml.safe_dump(as_dict(broken)))
    write_manifest = pretraining_run.write_manifest

    def write_and_break(*args, **kwargs) -> None:
        write_manifest(*args, **kwargs)
        (folder / "mlflow.db").write_bytes(b"no database " * 100)

    monkeypatch.setattr(pretraining_run, "write_manifest", write_and_break)
    assert run_command("pretrain", ["--config", str(folder / "config.yaml")]) == 0
    assert "/pretrain is on disk, but not in MLflow (MLflow's database" in capsys.readouterr().err
    assert_same(read_bundle(locate(folder / "pretrain" / "bundle")).parameters, prompts)
    (folder / "mlflow.db").unlink()
    synced = log_outbox(broken)
    assert (len(synced.runs), synced.pending) == (1, ())


@pytest.mark.slow
def test_a_run_that_another_process_ends_is_bit_for_bit_the_same(config, output, prompts, monkeypatch):
    cut = moved(config, output, "cut")
    write_state = checkpoints.write_state

    def die(place: Location, state: MetaState, history: checkpoints.History) -> None:
        write_state(place, state, history)
        if state.step == 2:
            raise RuntimeError("the end came early")

    monkeypatch.setattr(training_loop, "write_state", die)
    with pytest.raises(RuntimeError, match="came early"):
        pretrain_prompts(cut)
    file = Path(cut.output) / "config.yaml"
    file.write_text(yaml.safe_dump(as_dict(cut)))
    command = [sys.executable, "-m", "pipelines.pretrain", "--config", str(file)]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    assert f"{GOES_ON} 2" in log
    actual = read_bundle(locate(cut.output) / "pretrain" / "bundle").parameters
    assert all(torch.equal(actual[name], tensor) for name, tensor in prompts.items())
    assert len(list(Path(cut.output).glob("pretrain/state/*/*.pt"))) == 2, "older checkpoints are of no use"


def test_prompts_of_other_weights_are_not_taken_for_finished(config, output, prompts):
    """The weights file stays where it is and gets other content."""
    weights, one = output / "weights.safetensors", moved(config, output, "weights")
    one = dataclasses.replace(one, backbone=BackboneConfig(name=EMBEDDED, checkpoint=str(weights)))
    state = load_backbone(BackboneConfig()).clip.state_dict()
    bundles = []
    for sign in (1, -1):
        save_file({**state, "visual.head.proj.weight": sign * state["visual.head.proj.weight"]}, weights)
        bundles.append(read_bundle(locate(pretrain_prompts(one).bundle)))
    assert bundles[0].backbone_sha256 != bundles[1].backbone_sha256
    name = next(iter(prompts))
    assert torch.equal(bundles[0].parameters[name], prompts[name])
    assert not torch.equal(bundles[1].parameters[name], prompts[name])


def test_prompts_say_which_pictures_the_store_was_made_of(config, output, store):
    """Not what the configuration of `pretrain` says, which need not repeat it."""
    other = moved(config, output, "other")
    (Path(other.output) / "tasks").unlink()
    shutil.copytree(store.root.path, Path(other.output) / "tasks")
    plan = locate(other.output) / "tasks" / "plan.json"
    assert plan.read_json()["source"] == "procedural"
    plan.write_json({**plan.read_json(), "source": "kadid10k", "labels": "scores of kadid10k"})
    short = dataclasses.replace(other, meta=dataclasses.replace(config.meta, outer_steps=1))
    assert read_bundle(locate(pretrain_prompts(short).bundle)).provenance["source"] == "kadid10k"


def test_the_last_checkpoint_is_read_and_one_before_it_stays(tmp_path):
    place = locate(tmp_path / "state")
    assert checkpoints.read_state(place) is None
    for step in (1, 2, 10):
        state = MetaState(step, {"a": torch.full((2,), float(step))}, {"b": torch.zeros(1)})
        checkpoints.write_state(place, state, [{"step": float(step)}])
    assert [file.name for file in place.list()] == ["step-0000002.pt", "step-0000010.pt"]
    state, history = checkpoints.read_state(place)
    assert (state.step, history, state.parameters["a"].tolist()) == (10, [{"step": 10.0}], [10.0, 10.0])
    assert state.drifted["b"].tolist() == [0.0]


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"meta.loss": "msrcc", "prompts.coupled": True}, marks=pytest.mark.slow)],
    ids=str,
)
def test_two_workers_and_a_killed_one_give_one_process_prompts(config, store, output, capfd, options):
    longer = with_settings(config, {"meta.outer_steps": 6, **options})
    prompts = read_bundle(locate(pretrain_prompts(moved(longer, output, f"alone{len(options)}")).bundle)).parameters
    assert any("coupling" in name for name in prompts) == bool(options)
    spread = moved(longer, output, f"killed{len(options)}", workers=2)
    killed: list[int] = []
    stop = threading.Event()
    thread = threading.Thread(target=kill_a_train_worker, args=(Path(spread.output) / "pretrain", killed, stop))
    thread.start()
    try:
        result = pretrain_prompts(spread)
    finally:
        stop.set()
        thread.join()
    assert len(killed) == 1, "the run was over before a worker could be killed"
    assert GOES_ON in capfd.readouterr().err
    assert [record["step"] for record in result.history] == list(range(1, 7))
    assert_same(read_bundle(locate(result.bundle)).parameters, prompts)


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
        pretrain_prompts(wrong)

"""A whole run whose output is on a real S3 server: what a user does, with nothing but the environment set.

The run is a process of its own with its own Ray: workers must get address and credentials as they would from a shell,
and the Ray of the other tests was started without them.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from grmp_core.datasets.label_table import load_table
from grmp_core.errors import InputError
from grmp_core.model.bundle import read_bundle
from grmp_core.procedural import scenes
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from grmp_core.tasks.task_store import TaskStore
from tests.s3_server import s3_server

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
OUTPUT = "s3://runs/first"
TARGET = "s3://runs/target"
NUM_IMAGES = 18
"""More than are scored without Ray."""
SETTINGS = {
    "output": OUTPUT,
    "views": {"train_views": 1, "score_grid": 1},
    "synthesize": {"references": 2, "tasks": ["gaussian_blur", "white_noise"], "query_fraction": 0.5},
    "meta": {"outer_steps": 2, "batch_size": 2},
    "pretrain": {"workers": 0, "checkpoint_every": 1},
    "adapt": {"epochs": 1, "folds": 2},
    "sweep": {"lambdas": [0.0], "shots": [6], "split_seeds": [0]},
}
RUN = """
import dataclasses, json, sys
from pipelines import pretrain, score, sweep, synthesize
from pipelines.configuration.loading import load_config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.pretraining import training_loop
from pipelines.runtime.ray_session import ray_session
from pipelines.scoring import batch_scorer

config = load_config(sys.argv[1])
write_state, written = training_loop.write_state, []

def write_and_die(*arguments):
    write_state(*arguments)
    raise KeyboardInterrupt

def write_and_count(place, state, history):
    written.append(state.step)
    write_state(place, state, history)

batch_scorer.PART_ROWS = 5
with ray_session():
    synthesize.run(config)
    try:
        training_loop.write_state = write_and_die
        pretrain.run(config)
    except KeyboardInterrupt:
        training_loop.write_state = write_and_count
    pretrained = pretrain.run(config)
    swept = sweep.run(config)
    scoring = ScoreConfig(model=swept.chosen.bundle, images=(sys.argv[2],), output=config.output + "/scores.parquet")
    score.run(dataclasses.replace(config, score=scoring))
print(json.dumps({"bundle": pretrained.bundle, "resumed": written, "trial": swept.chosen.trial}))
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Environment variables of a user of the server."""
    with s3_server("runs") as variables:
        yield variables


@pytest.fixture
def s3(environment, monkeypatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def ran(environment, tmp_path_factory, mlflow_store) -> dict[str, object]:
    """The commands, one after the other, in a process with its own Ray."""
    folder = tmp_path_factory.mktemp("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        upload_target()
    settings = {
        **SETTINGS,
        "target": {"path": f"{TARGET}/labels.csv", "score_min": 0, "score_max": 10},
        "tracking": {"uri": mlflow_store.uri},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with tempfile.TemporaryDirectory(prefix="ray") as own:  # short: Ray's sockets are below it
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(folder / "config.yaml"), TARGET],
            cwd=ROOT,
            env={**_without_ray(), **environment, "RAY_TMPDIR": own},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def upload_target() -> None:
    """Labelled pictures."""
    for i in range(NUM_IMAGES):
        picture = cv2.cvtColor(scenes.reference(500 + i, 230, 240), cv2.COLOR_RGB2BGR)
        locate(f"{TARGET}/{i}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    frame = pd.DataFrame({"image": [f"{i}.png" for i in range(NUM_IMAGES)], "mos": np.linspace(1, 9, NUM_IMAGES)})
    locate(f"{TARGET}/labels.csv").write_bytes(frame.to_csv(index=False).encode())


def _without_ray() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def test_the_task_store_is_there(ran, s3):
    store = TaskStore(locate(OUTPUT) / "tasks")
    assert store.tasks == ("gaussian_blur", "white_noise")
    assert store.num_references == {"support": 1, "query": 1}


def test_interrupted_pretraining_went_on_from_its_state(ran, s3):
    place = locate(OUTPUT) / "pretrain"
    assert ran["resumed"] == [2]
    assert read_bundle(locate(str(ran["bundle"]))).kind == "prompts"
    checkpoints = [file.name for file in (place / "state").list(".pt", recursive=True)]
    assert checkpoints == ["step-0000001.pt", "step-0000002.pt"]
    assert (place / "manifest.json").read_json()["counts"] == {"tasks": 2, "outer_steps": 2}


def test_the_sweep_wrote_its_trial_and_report(ran, s3):
    place = locate(OUTPUT) / "sweep"
    trial = place / "trials" / str(ran["trial"])
    assert (trial / "trial.json").read_json()["row"]["error"] is None
    assert read_bundle(trial / "bundle").kind == "model"
    assert (place / "results.parquet").exists()
    assert (place / "report.html").exists()


def test_labels_in_a_bucket_are_read_and_missing_images_are_listed(ran, s3):
    labelled = load_table(TARGET, 0.0, score_range=ScoreRange(mos_min=0, mos_max=10))
    assert labelled.image_paths[3] == f"{TARGET}/3.png"
    assert labelled.reference_ids[3] == "3.png"
    assert len(labelled) == NUM_IMAGES
    rows = "image,mos\na é 0.png,1\nnone.png,2\ns3://runs/target/1.png,3\n../target/2.png,4\n"
    locate(f"{TARGET}-2/labels.csv").write_bytes(rows.encode())
    (locate(f"{TARGET}-2") / "a é 0.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"line 3: image not found"):
        load_table(f"{TARGET}-2/labels.csv", 0.0)
    kept = load_table(f"{TARGET}-2/labels.csv", 0.5)
    odd = (locate(f"{TARGET}-2") / "a é 0.png").uri
    assert kept.image_paths == [odd, f"{TARGET}/1.png", f"{TARGET}/2.png"]
    assert locate(odd).read_bytes() == b"x"
    with pytest.raises(InputError, match=r"nothing\.csv: cannot be read"):
        load_table("s3://runs/nothing.csv", 0.0)


def test_the_scores_can_be_read_back(ran, s3):
    scores = pd.read_parquet(io.BytesIO(locate(f"{OUTPUT}/scores.parquet").read_bytes()))
    assert scores["image_path"].tolist() == sorted(f"{TARGET}/{i}.png" for i in range(NUM_IMAGES))
    assert scores["quality"].between(0, 1).all()
    assert not [file for file in locate(OUTPUT).list(recursive=True) if ".parts-" in file.path]
    assert scores["error"].isna().all()
    manifest = (locate(OUTPUT) / "scores.parquet.manifest.json").read_json()
    assert manifest["not_taken"] == [{"path": f"{TARGET}/labels.csv", "reason": "no image by its content"}]

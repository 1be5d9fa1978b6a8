"""`grmp card`: from a model to its run, data, prompts and labels."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import LoggedModelInput
from scipy import stats

from grmp_core.model.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.storage import locate
from pipelines.cli import run_command
from pipelines.configuration.models import CardConfig, RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.registry.evaluation_metrics import rank_metrics
from pipelines.registry.origin import _way_of_run, card_of
from pipelines.registry.registration import register_model
from pipelines.scoring.registered_models import as_current
from pipelines.tracking.store_check import OUTAGE
from pipelines.tracking.tracker import open_tracking
from tests.pipelines.registry.bundles import qualities
from tests.pipelines.sweep_files import write_sweep


def test_a_folder_leads_to_the_manifest_and_the_labels(make_bundle, tmp_path, capsys):
    bundle = read_bundle(locate(make_bundle(4)))
    origin = {
        "target": "livec",
        LEARNED_FROM: ["a", "b", "c"],
        "lambda": 2.0,
        "pretraining": {"tasks": ["jpeg", "white_noise"], "source": "procedural"},
    }
    place = tmp_path / "sweep" / "trials" / "lambda=2" / "bundle"
    write_bundle(
        locate(place), dataclasses.replace(bundle, provenance=origin, metrics={"srcc": 0.5, "plcc": float("nan")})
    )
    manifest = {
        "command": "sweep",
        "created_utc": "2025-01-02",
        "inputs": {"target": "sha256:feed"},
        "git_commit": "c0de",
    }
    (tmp_path / "sweep" / "manifest.json").write_text(json.dumps(manifest))
    assert run_command("card", [str(place), "--set", f"output={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    for line in (
        f"* command: grmp sweep, 2025-01-02, {tmp_path}/sweep",
        "* input target: sha256:feed",
        "* code: c0de",
        "* prompts: 2 tasks of procedural",
        "* target: livec",
        "* labels: 3 images, listed by their hashes in the bundle",
        "* lambda: 2.0",
        "* srcc 0.5000",
    ):
        assert line in shown.splitlines()
    assert "plcc" not in shown
    assert "| LIVE In the Wild (LIVEC) | labels of the adaptation |" in shown
    assert run_command("card", [str(place), "--json", "--set", f"output={tmp_path}"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["metrics"] == {"srcc": 0.5, "plcc": None}
    assert content["commercial_use"].startswith("Commercial use is not settled")


def test_a_folder_alone_says_what_is_not_known(make_bundle):
    folder = make_bundle(4)
    (Path(folder).parent / "manifest.json").unlink(missing_ok=True)
    card = card_of(Config(card=CardConfig(model=str(folder))))
    assert ("command", "unknown: there is no manifest beside the bundle") in card.way
    assert ("labels", "not noted in the bundle") in card.way
    assert ("prompts", "not pre-trained") in card.way


def test_a_registered_model_of_no_run_says_so(registry):
    model = CardConfig(model="models:/tiny@champion")
    way = dict(card_of(dataclasses.replace(registry.config, card=model)).way)
    assert way["model version"].startswith("models:/tiny/2, registered 20")
    assert way["logged model"].startswith("m-")
    assert way["run"].startswith("none: the bundle was registered from a folder")


def test_from_a_version_over_its_run_to_the_labels(registry, make_bundle, images, tmp_path):
    """A bundle whose trial is logged: model, metrics and data are linked, and the card prints the way."""
    sweep = write_sweep(tmp_path, lambdas=(1,), shots=(10,), seeds=(0,), n_test=15, images=False)
    (trial,) = sweep.glob("trials/*")
    shutil.copytree(make_bundle(8), trial / "bundle")
    experiment = TrackingConfig(uri=registry.config.tracking.uri, experiment="linked")
    config = dataclasses.replace(registry.config, tracking=experiment)
    tracker = open_tracking(config)
    parent = tracker.log("sweep", locate(sweep))
    (data,) = tracker.client.get_run(parent).inputs.dataset_inputs
    assert (data.dataset.digest, data.tags[0].value) == ("sha256:feed", "labels")
    section = RegisterConfig(name="linked", bundle=str(trial / "bundle"))
    done = register_model(dataclasses.replace(config, register=section))
    way = card_of(dataclasses.replace(config, card=CardConfig(model=f"models:/linked/{done.version}"))).way
    steps = [step for step, _ in way]
    assert steps[:4] == ["model version", "logged model", "run", "run"]
    assert [found.partition(" ")[0] for step, found in way if step == "run"] == [trial.name, "sweep"]
    assert ("input target", "sha256:feed") in way
    assert (f"data {data.dataset.name}", "digest sha256:feed") in way
    model_id = dict(way)["logged model"]
    model = tracker.client.get_logged_model(model_id)
    run = tracker.run_of_bundle(locate(trial / "bundle"))
    assert model.source_run_id == run.info.run_id
    (measured,) = [metric for metric in model.metrics if metric.key == "srcc"]
    assert (measured.value, measured.dataset_digest) == (0.5, "sha256:feed")
    assert [output.model_id for output in tracker.client.get_run(run.info.run_id).outputs.model_outputs] == [model_id]


def test_what_was_deleted_is_said_and_an_outage_is_no_deletion(mlflow_store, monkeypatch):
    client = mlflow.MlflowClient(mlflow_store.uri)
    experiment = client.create_experiment("deleted")
    prompts = client.create_logged_model(experiment, model_type="prompts").model_id
    run_id = client.create_run(experiment, run_name="adapt").info.run_id
    client.log_inputs(run_id, models=[LoggedModelInput(prompts)])
    client.delete_logged_model(prompts)
    way = _way_of_run(client, run_id)
    assert way == [("run", f"adapt ({run_id})"), ("started from", f"{prompts}, which was deleted")]
    assert _way_of_run(client, "0" * 32) == [("run", f"{'0' * 32}, which was deleted")]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(OUTAGE):
        _way_of_run(mlflow.MlflowClient("http://127.0.0.1:9"), run_id)


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # mlflow, of its own calls
def test_mlflow_evaluates_with_srcc_and_plcc(registry, images):
    encoded = [base64.b64encode(Path(path).read_bytes()).decode() for path in images[:12]]
    mos = np.random.default_rng(0).uniform(0, 100, 12)
    table = pd.DataFrame({"image": [*encoded, "no image"], "mos": [*mos, 50.0]})
    with as_current(open_tracking(registry.config)), mlflow.start_run():
        result = mlflow.models.evaluate(
            "models:/tiny@champion", table, targets="mos", predictions="mos_scale_score", extra_metrics=rank_metrics()
        )
    expected = qualities(registry.bundles["good"], images[:12])
    assert result.metrics["srcc/value"] == pytest.approx(stats.spearmanr(expected, mos).statistic)
    assert result.metrics["plcc/value"] == pytest.approx(stats.pearsonr(expected, mos).statistic)
    assert result.metrics["srcc/n"] == 12

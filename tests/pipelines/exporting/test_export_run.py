"""`grmp export` from end to end: every format gives the bundle's scores."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow.pyfunc import PythonModelContext

import grmp_core
from grmp_core.continual.gate import Gate
from grmp_core.export.onnx_scorer import onnx_session
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.views import scoring_views
from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.model.ensemble import with_member
from grmp_core.storage import locate
from pipelines.cli import BAD_INPUT, run_command
from pipelines.exporting import export_run
from pipelines.registry.served_model import ServedModel
from tests.pipelines.registry.bundles import qualities


def exported(capsys, output: Path, model: object, to: str) -> dict:
    assert run_command("export", [str(model), "--to", to, "--json", "--set", f"output={output}"]) == 0
    return json.loads(capsys.readouterr().out)


def test_onnx_has_the_scores_of_the_bundle(make_bundle, images, tmp_path, capsys):
    folder = make_bundle(3)
    result = exported(capsys, tmp_path, folder, "onnx")
    assert result["difference"] < 1e-4
    session, views = onnx_session(Path(result["path"]).read_bytes()), read_bundle(locate(folder)).views
    crops = [scoring_views(read_image(path), views, 32) for path in images]
    scores = [session.run(["quality"], {"crops": one})[0].mean() for one in crops]
    np.testing.assert_allclose(scores, qualities(folder, images), atol=1e-4)
    manifest = json.loads((tmp_path / "export" / "onnx.manifest.json").read_text())
    assert manifest["inputs"]["digest"] == read_bundle(locate(folder)).digest


def test_a_hub_folder_loads_back_and_its_card_has_metrics(make_bundle, images, tmp_path, capsys):
    folder = make_bundle(3)
    result = exported(capsys, tmp_path, folder, "hub")
    hub = Path(result["path"])
    pixels = torch.from_numpy(read_image(images[0])).permute(2, 0, 1)[None] / 255
    assert grmp_core.load(hub)(pixels).item() == pytest.approx(qualities(folder, images[:1])[0], abs=1e-5)
    _, front, card = (hub / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(front)
    (model,) = metadata["model-index"]
    assert model["results"][0]["metrics"] == [{"type": "srcc", "name": "srcc", "value": 0.5}]
    assert metadata["library_name"] == "grmp-iqa"
    config = json.loads((hub / "config.json").read_text())
    assert config["preprocessing"]["size_px"] == 32
    assert all(f"* {key}: " in card for key in config["preprocessing"])
    assert "* size_px: 32\n" in card
    assert "Commercial use is not settled" in card
    assert str(tmp_path) not in card + json.dumps(config)


def test_a_picture_has_one_score_at_every_exit(make_bundle, checkpoints, images, tmp_path, capsys):
    """The command, the module, ONNX, safetensors, a hub folder and the registered model; the HTTP server's own test
    compares it with the command, too."""
    folder, picture = make_bundle(4), images[1]
    pixels = torch.from_numpy(read_image(picture)).permute(2, 0, 1)[None] / 255
    assert run_command("score", [picture, "--model", str(folder), "--json", "--set", f"output={tmp_path}"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["scores"]
    found = {"module": grmp_core.load(folder)(pixels).item()}
    for to in ("safetensors", "hub"):
        found[to] = grmp_core.load(exported(capsys, tmp_path, folder, to)["path"])(pixels).item()
    session = onnx_session(Path(exported(capsys, tmp_path, folder, "onnx")["path"]).read_bytes())
    crops = scoring_views(read_image(picture), read_bundle(locate(folder)).views, 32)
    found["onnx"] = session.run(["quality"], {"crops": crops})[0].mean().item()
    registered = ServedModel()
    registered.load_context(PythonModelContext({"bundle": str(folder), "backbone": checkpoints()}, {}))
    encoded = base64.b64encode(Path(picture).read_bytes()).decode()
    found["registered"] = registered.predict(None, pd.DataFrame({"image": [encoded]}))["quality"].item()
    assert found == pytest.approx(dict.fromkeys(found, row["quality"]), abs=1e-4)


def test_a_model_that_comes_out_otherwise_is_not_written(make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(export_run, "largest_difference", lambda *_: float("nan"))
    monkeypatch.setattr(export_run, "onnx_bytes", lambda *_: b"")
    with pytest.raises(RuntimeError, match=r"off by nan, more than 0\.0001"):
        run_command("export", [str(make_bundle(3)), "--set", f"output={tmp_path}"])
    assert not list(tmp_path.glob("export/*.onnx"))


@pytest.mark.parametrize("to", ["onnx", "safetensors", "hub"])
def test_a_model_with_a_gate_is_refused_before_anything_is_written(make_bundle, tmp_path, capsys, to):
    bundle, other = (read_bundle(locate(make_bundle(seed))) for seed in (3, 4))
    centres = torch.eye(2)
    gate = Gate(centres_KE=centres, owner_K=torch.arange(2), sharpness=1.0, early_size=0, deep=False)
    gated = with_member(with_member(None, bundle.parameters, gate), other.parameters, gate)
    write_bundle(locate(tmp_path / "gated"), dataclasses.replace(bundle, parameters=gated))
    options = [str(tmp_path / "gated"), "--to", to, "--set", f"output={tmp_path / 'out'}"]
    assert run_command("export", options) == BAD_INPUT
    assert "weighs its models by a gate and cannot be exported" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.safetensors"))

"""The registered model alone in a process without this project."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc import PythonModelContext

from grmp_core.confidence.evidence import Evidence
from grmp_core.errors import InputError
from grmp_core.model import scorer
from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.storage import locate
from pipelines.registry import served_model
from tests.pipelines.registry.bundles import qualities

PROJECT = Path(__file__).resolve().parents[3]


ALONE = """
import json, sys
project, model_configs = sys.argv[1:]
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "pipelines"):
            raise ImportError("blocked " + name)
        if name == "grmp_core" and path is None:  # only the copy inside the model counts, not an editable install
            import importlib.machinery
            folders = [folder for folder in sys.path if not folder.startswith(project)]
            return importlib.machinery.PathFinder.find_spec(name, folders)
sys.meta_path.insert(0, Block())
import mlflow, pandas as pd, torch, open_clip
from mlflow.pyfunc.scoring_server import init
from starlette.testclient import TestClient
torch.set_num_threads(1)
open_clip.add_model_config(model_configs)
model = mlflow.pyfunc.load_model("models:/tiny@champion")
images = json.load(open("rows.json"))
rows = model.predict(pd.DataFrame({"image": images})).to_dict("records")
request = {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}
served = TestClient(init(model)).post("/invocations", json=request)
import grmp_core
pins = mlflow.pyfunc.get_model_dependencies("models:/tiny@champion")
found = {"rows": rows, "core": grmp_core.__file__, "pins": open(pins).read(), "status": served.status_code}
json.dump({**found, "served": served.text}, open("out.json", "w"))
"""


@pytest.fixture(scope="module")
def alone(registry, images, model_configs, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Answers of the champion in a process that can import neither Ray nor this project."""
    encoded = [base64.b64encode(Path(path).read_bytes()).decode() for path in images]
    rows = [
        encoded[0],
        "http://169.254.169.254/secret.png",
        base64.b64encode(b"no picture").decode(),
        images[1],
        f"data:image/png;base64,{encoded[2]}",
    ]
    folder = tmp_path_factory.mktemp("alone")
    (folder / "rows.json").write_text(json.dumps(rows))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": registry.config.tracking.uri, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", ALONE, str(PROJECT), str(model_configs)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


def test_registered_model_scores_without_this_project_and_ray(alone, registry, images) -> None:
    assert not alone["core"].startswith(str(PROJECT / "grmp_core"))
    expected = qualities(registry.bundles["good"], [images[0], images[2]])
    scored = [alone["rows"][0], alone["rows"][4]]
    assert [row["quality"] for row in scored] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [row["mos_scale_score"] for row in scored] == pytest.approx((100 * expected).tolist(), abs=1e-4)
    assert all(row["error"] is None for row in scored)


def test_bad_rows_get_an_error_and_leave_the_others_alone(alone) -> None:
    url, no_picture, path = alone["rows"][1:4]
    assert "URLs are not fetched" in url["error"]
    assert "not an image" in no_picture["error"]
    assert "local paths are switched off" in path["error"]
    assert [row["quality"] for row in (url, no_picture, path)] == [None] * 3


def test_scoring_server_answers_strict_json(alone) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    assert alone["status"] == 200
    assert json.loads(alone["served"], parse_constant=refuse)["predictions"] == alone["rows"]


def test_requirements_are_pinned_to_what_is_installed_and_name_no_ray(alone) -> None:
    pins = alone["pins"].splitlines()
    assert f"torch=={torch.__version__.split('+')[0]}" in pins
    assert all("==" in pin for pin in pins if pin)
    assert not any(pin.startswith("ray") for pin in pins)


@pytest.fixture
def served(make_bundle, checkpoints):
    def make(**settings) -> served_model.ServedModel:
        artifacts = {"bundle": str(make_bundle(9)), "backbone": checkpoints()}
        model = served_model.ServedModel()
        model.load_context(PythonModelContext(artifacts, settings))
        return model

    return make


def answer(model: served_model.ServedModel, rows: list) -> pd.DataFrame:
    index = range(10, 10 + len(rows))
    return model.predict(None, pd.DataFrame({"image": pd.Series(rows, dtype=object, index=index)}))


def test_paths_are_read_where_they_are_switched_on(served, images) -> None:
    by_path = answer(served(allow_local_paths=True), images[:2])
    by_bytes = answer(served(), [base64.b64encode(Path(path).read_bytes()).decode() for path in images[:2]])
    pd.testing.assert_frame_equal(by_path, by_bytes)
    assert by_path["quality"].dtype == np.float64
    assert list(by_path.index) == [10, 11]


def test_intervals_and_marks_are_columns(make_bundle, checkpoints, images) -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.2, 0.8, 40)
    names = tuple(map(str, range(40)))
    statistics = rng.normal(5, 0.01, (40, 96))
    evidence = Evidence.of(predicted, predicted + 0.05, statistics, names, early_size=48, deep=False)
    place = locate(make_bundle(11))
    write_bundle(place, dataclasses.replace(read_bundle(place), evidence=evidence))
    rows = [base64.b64encode(Path(images[0]).read_bytes()).decode(), ""]
    found = {}
    for coverage in (0.5, 0.95):
        model = served_model.ServedModel()
        model.load_context(
            PythonModelContext({"bundle": place.path, "backbone": checkpoints()}, {"coverage": coverage})
        )
        found[coverage] = good, bad = answer(model, rows).to_dict("records")
        assert good["quality_low"] < good["quality"] < good["quality_high"]
        assert good["score_high"] == pytest.approx(100 * good["quality_high"])
        assert good["unlike"] is True
        assert good["distance"] > 1, "farther than all but 5 % of the known images"
        assert (bad["quality_low"], bad["unlike"], bad["distance"]) == (None, None, None)
    assert found[0.95][0]["quality_low"] < found[0.5][0]["quality_low"]


def test_paths_outside_the_allowed_folder_are_refused(served, images, tmp_path, monkeypatch) -> None:
    (tmp_path / "in").mkdir()
    inside = tmp_path / "in" / "a.png"
    inside.write_bytes(Path(images[0]).read_bytes())
    (tmp_path / "in" / "link.png").symlink_to(images[1])
    monkeypatch.setenv("GRMP_IMAGE_ROOT", str(tmp_path / "in"))
    rows = [str(inside), images[1], str(tmp_path / "in" / "link.png"), str(tmp_path / "in" / ".." / "b.png")]
    errors = answer(served(allow_local_paths=True), rows)["error"].tolist()
    assert errors[0] is None
    assert "outside the folder" in errors[1]
    assert "outside the folder" in errors[2]
    assert errors[3] is not None


def test_hopeless_rows_are_told_apart(served, images) -> None:
    big = base64.b64encode(Path(images[0]).read_bytes()).decode()
    rows = ["", None, 7, "file:///etc/passwd", "###", big]
    errors = answer(served(max_pixels=100), rows)["error"].tolist()
    words = ["expected base64", "got nothing", "got int", "URLs are not fetched", "not base64", "too large"]
    assert all(word in error for word, error in zip(words, errors, strict=True))


@pytest.mark.parametrize("error", [RuntimeError("Failed to decode frame 0"), TypeError(), MemoryError()])
def test_whatever_a_decoder_raises_costs_one_row_of_a_request(served, images, monkeypatch, error) -> None:
    rows = [base64.b64encode(Path(path).read_bytes()).decode() for path in images[:3]]
    model = served()
    expected = answer(model, rows)
    decode_image = scorer.decode_image

    def fail(source, limits):
        if source == base64.b64decode(rows[1]):
            raise error
        return decode_image(source, limits)

    monkeypatch.setattr(scorer, "decode_image", fail)
    answered = answer(model, rows)
    assert answered["quality"].tolist() == [expected["quality"].iloc[0], None, expected["quality"].iloc[2]]
    assert type(error).__name__ in answered["error"].iloc[1]
    assert answered["error"].tolist()[::2] == [None, None]


def test_no_rows_and_no_column(served) -> None:
    model = served()
    assert answer(model, []).empty
    with pytest.raises(InputError, match="column 'image'"):
        model.predict(None, pd.DataFrame({"picture": ["x"]}))

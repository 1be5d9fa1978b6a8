"""`grmp drift` over tables, folders and the registry."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from grmp_core.storage import locate
from pipelines import cli
from pipelines.results.sweep_folder import TrialFolder
from pipelines.scoring.registered_models import REFERENCE_SCORES


@pytest.fixture
def files(tmp_path):
    """Scores as at registration, and others; of each ten rows without a score."""
    rng = np.random.default_rng(0)
    for name, quality in (("same", rng.beta(5, 3, 200)), ("other", rng.beta(3, 5, 200))):
        table = pd.DataFrame({"quality": [*quality, *[np.nan] * 10], "error": [*[None] * 200, *["torn"] * 10]})
        table.to_parquet(tmp_path / f"{name}.parquet")
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path, rng.beta(5, 3, 500)


def run(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(["drift", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out or told.err


def test_scores_of_another_kind_of_image_are_told(files, capsys, mlflow_store):
    folder, reference = files
    held_out = pd.DataFrame({"image_path": "x", "mos": 1.0, "quality": reference, "mos_scale_score": 1.0})
    TrialFolder(locate(folder)).write_predictions(held_out)
    client = MlflowClient(mlflow_store.uri, mlflow_store.uri)
    client.create_registered_model("drifting")
    version = client.create_model_version("drifting", str(folder)).version
    noted = json.dumps(sorted(reference.round(5)))
    client.set_model_version_tag("drifting", version, REFERENCE_SCORES, noted)
    client.set_registered_model_alias("drifting", "champion", version)
    registry = ("--set", f"tracking.uri={mlflow_store.uri}", "--set", "register.name=drifting")
    found = []
    for model in (("--model", folder / "bundle"), registry, ("--reference", folder / "same.csv")):
        code, text = run(capsys, folder / "other.parquet", *model)
        assert code == 1
        assert "the scores have drifted: distance 0." in text
        code, text = run(capsys, folder / "same.csv", "--json", *model)
        assert code == 0
        found.append(json.loads(text))
    assert found[0]["distance"] == pytest.approx(found[1]["distance"], abs=0.01)  # noted with 5 digits
    assert (found[0]["n"], found[0]["reference_n"], found[0]["without_score"]) == (200, 500, 10)
    assert found[1]["reference"] == "the held-out images of models:/drifting/1"
    assert (found[2]["distance"], found[2]["drifted"]) == (0, False)


def test_what_cannot_be_compared_is_refused(files, capsys):
    folder, _ = files
    (folder / "torn.parquet").write_bytes(b"no table")
    pd.DataFrame({"mos": [1, 2]}).to_csv(folder / "labels.csv", index=False)
    same = folder / "same.csv"
    for arguments, message in (
        ((), "name a table that grmp score wrote"),
        ((same, "--model", folder / "bundle"), "has no scores of held-out images to compare with"),
        ((folder / "torn.parquet", "--reference", same), "torn.parquet: not a table"),
        ((folder / "labels.csv", "--reference", same), "labels.csv: has no column quality"),
        ((folder / "gone.csv", "--reference", same), "gone.csv: no such file"),
    ):
        code, text = run(capsys, *arguments)
        assert code == 2
        assert message in text

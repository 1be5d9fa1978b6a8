"""`grmp drift` over tables, folders and the registry."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from scipy import stats

from grmp_core.storage import locate
from pipelines import cli
from pipelines.results.sweep_folder import TrialFolder
from pipelines.scoring.registered_models import REFERENCE_DISTANCES, REFERENCE_SCORES


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


def test_distances_from_known_images_drift_by_themselves(files, capsys, mlflow_store):
    """The scores stay, the images do not: the distance of the distances is SciPy's."""
    folder, reference = files
    rng = np.random.default_rng(1)
    known, near, far = rng.normal(0, 1, 300), rng.normal(0, 1, 210), rng.normal(1, 1, 210)
    for name, distance in (("near", near), ("far", far)):
        pd.read_parquet(folder / "same.parquet").assign(distance=distance).to_parquet(folder / f"{name}.parquet")
    client = MlflowClient(mlflow_store.uri, mlflow_store.uri)
    client.create_registered_model("distant")
    registry = ("--set", f"tracking.uri={mlflow_store.uri}", "--set", "register.name=distant")
    version = client.create_model_version("distant", str(folder)).version
    client.set_registered_model_alias("distant", "champion", version)
    client.set_model_version_tag("distant", version, REFERENCE_SCORES, json.dumps(sorted(reference)))
    code, text = run(capsys, folder / "far.parquet", *registry)
    assert code == 0
    assert "distances are not compared: the held-out images of models:/distant/1 come without any" in text
    client.set_model_version_tag("distant", version, REFERENCE_DISTANCES, json.dumps(sorted(known)))
    code, text = run(capsys, folder / "far.parquet", *registry)
    assert code == 1
    assert "the distances have drifted: distance 0." in text
    code, text = run(capsys, folder / "far.parquet", "--json", *registry)
    expected = stats.ks_2samp(far[:200], known, method="asymp")
    found = json.loads(text)["distances"]
    assert (found["distance"], found["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found["n"], found["reference_n"]) == (200, 300)
    assert run(capsys, folder / "near.parquet", *registry)[0] == 0
    code, text = run(capsys, folder / "same.parquet", *registry)
    assert (code, "same.parquet has none; score the images again" in text) == (0, True)
    code, text = run(capsys, folder / "far.parquet", "--reference", folder / "near.parquet")
    assert (code, "the distances have drifted" in text) == (1, True)


def test_what_cannot_be_compared_is_refused(files, capsys):
    folder, _ = files
    (folder / "torn.parquet").write_bytes(b"no table")
    pd.DataFrame({"mos": [1, 2]}).to_csv(folder / "labels.csv", index=False)
    for column in ("quality", "distance", "unlike"):
        mixed = pd.DataFrame({"quality": [0.5, 0.6, 0.7], "distance": [1.0, 2.0, 3.0], "unlike": [True, True, False]})
        mixed = mixed.astype({column: object})
        mixed.loc[1, column] = "n. a."
        mixed.to_csv(folder / f"{column}.csv", index=False)
    same = folder / "same.csv"
    for arguments, message in (
        ((), "name a table that grmp score wrote"),
        ((same, "--model", folder / "bundle"), "has no scores of held-out images to compare with"),
        ((folder / "torn.parquet", "--reference", same), "torn.parquet: not a table"),
        ((folder / "labels.csv", "--reference", same), "labels.csv: has no column quality"),
        ((folder / "gone.csv", "--reference", same), "gone.csv: no such file"),
        ((folder / "quality.csv", "--reference", same), "quality.csv: column quality has 'n. a.', which is no number"),
        ((folder / "unlike.csv", "--reference", same), "unlike.csv: column unlike has 'n. a.', which is neither"),
        ((same, "--reference", folder / "quality.csv"), "quality.csv: column quality has 'n. a.', which is no number"),
        ((folder / "distance.csv", "--reference", same), "distance.csv: column distance has 'n. a.'"),
        ((same, "--reference", folder / "distance.csv"), "distance.csv: column distance has 'n. a.'"),
    ):
        code, text = run(capsys, *arguments)
        assert code == 2
        assert message in text

"""Intervals in scores files, `grmp threshold` and `grmp compare`, with a tiny model that keeps held-out predictions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from grmp_core.confidence.acceptance import acceptance_threshold
from grmp_core.errors import InputError
from grmp_core.model.bundle import read_bundle, write_bundle
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.cli import main
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import CompareConfig, ScoreConfig, ThresholdConfig
from pipelines.scoring.comparison_run import compare
from pipelines.scoring.pass_threshold import find_threshold
from tests.pipelines.scoring.conftest import encoded


def test_scores_have_intervals_and_marks(score, pictures, judged_model, tmp_path, capsys):
    output = tmp_path / "scores.parquet"
    found = score(pictures, model=judged_model, output=str(output), coverage=0.8)
    table = pq.read_table(output).to_pylist()
    assert [row["unlike"] for row in table] == [True, True, True]
    for row in table:
        assert 0 <= row["quality_low"] < row["quality"] < row["quality_high"] <= 1
        assert row["score_low"] == pytest.approx(100 * row["quality_low"])
    assert "3 unlike what the model knows" in found.as_text()
    assert found.as_json()["unlike"] == 3
    narrow = score(pictures, model=judged_model, coverage=0.5).scores
    wide = score(pictures, model=judged_model, coverage=0.97).scores
    assert (narrow["quality_low"] >= found.scores["quality_low"]).all()
    assert (wide["quality_low"] <= found.scores["quality_low"]).all()
    assert "no intervals" not in capsys.readouterr().err


def test_a_model_without_held_out_predictions_says_why_there_is_no_interval(score, pictures, capsys):
    found = score(pictures)
    assert found.scores[["quality_low", "score_high", "unlike"]].isna().all(axis=None)
    assert "no intervals and no refusals, since it is not adapted to labels" in capsys.readouterr().err
    assert found.as_json()["scores"][0]["unlike"] is None


def asked(model: str, **settings: float) -> Config:
    return Config(score=ScoreConfig(model=model), threshold=ThresholdConfig(**settings))


def test_the_threshold_is_that_of_the_held_out_predictions(judged_model):
    evidence = read_bundle(locate(judged_model)).evidence
    found = find_threshold(asked(judged_model, pass_mos=30, precision=0.9, confidence=0.9))
    expected = acceptance_threshold(evidence.predicted_N, evidence.quality_N >= 0.3, 0.9, 0.9)
    assert found.acceptance == expected
    assert found.quality == expected.threshold
    assert found.score == pytest.approx(100 * expected.threshold)
    assert found.passing == (evidence.quality_N >= 0.3).sum()
    assert found.exit_code == 0
    assert f"score above {found.score:.4g}" in found.as_text()


def test_a_promise_that_cannot_be_kept_says_what_stands_in_its_way(judged_model, capsys):
    found = find_threshold(asked(judged_model, pass_mos=70))
    assert found.exit_code == 1
    assert "59 accepted images without an error\n" in found.as_text()
    assert f"{found.acceptance.errors} of them do not reach 70; label until the best 59" in found.as_text()
    few = dataclasses.replace(found.acceptance, accepted=10, errors=0, missing=49)
    assert "0 of them do not reach 70; 49 more are missing" in dataclasses.replace(found, acceptance=few).as_text()
    assert main(["threshold", "--pass-mos", "70", "--model", judged_model, "--json"]) == 1
    assert '"score": null' in capsys.readouterr().out


def test_of_differences_a_low_score_passes(judged_model, tmp_path):
    bundle = read_bundle(locate(judged_model))
    falling = ScoreRange(mos_min=0.0, mos_max=100.0, higher_is_better=False)
    write_bundle(locate(tmp_path / "bundle"), dataclasses.replace(bundle, score_range=falling))
    found = find_threshold(asked(str(tmp_path / "bundle"), pass_mos=70, precision=0.9, confidence=0.9))
    rising = find_threshold(asked(judged_model, pass_mos=30, precision=0.9, confidence=0.9))
    assert found.score == pytest.approx(100 - rising.score)
    assert "score below" in found.as_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "threshold.pass_mos is not set"), ({"pass_mos": 300.0}, "outside the scale of .* 0 to 100")],
)
def test_a_bar_that_makes_no_sense_is_refused(judged_model, settings, message):
    with pytest.raises(InputError, match=message):
        find_threshold(asked(judged_model, **settings))


def test_a_model_without_evidence_is_refused(tiny_model, pictures):
    with pytest.raises(InputError, match="no threshold can be set, since it is not adapted"):
        find_threshold(asked(tiny_model, pass_mos=1.0))
    with pytest.raises(InputError, match="how sure a comparison is, since it is not adapted"):
        compare(versus(tiny_model, pictures, pictures))


def versus(model: str, first: Path, second: Path) -> Config:
    return Config(score=ScoreConfig(model=model), compare=CompareConfig(first=str(first), second=str(second)))


def test_two_images_are_compared_whatever_their_names(judged_model, pictures):
    found = compare(versus(judged_model, pictures / "0.png", pictures / "1.png"))
    turned = compare(versus(judged_model, pictures / "1.png", pictures / "0.png"))
    assert len(found.scenes) == 1
    assert found.result.difference == pytest.approx(-turned.result.difference)
    assert found.result.probability == pytest.approx(1 - turned.result.probability, abs=0.05)
    assert found.unlike == 2
    for text in ("90% interval", "2 images are unlike"):
        assert text in found.as_text()
    better = "A" if found.result.probability >= 0.5 else "B"
    ahead = abs(found.result.difference) * 100
    assert f"{better} is better" in found.as_text()
    assert f"it is ahead by {ahead:.3g} points of the score" in found.as_text()
    assert f"it is ahead by {ahead:.3g} points of the score" in turned.as_text()


def test_folders_of_one_image_are_matched_by_name(judged_model, tmp_path):
    for name, seed in (("one/cat", 0), ("two/dog", 1), ("three/cat", 2)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.png").write_bytes(encoded(seed))
    with pytest.raises(InputError, match="no scene in common"):
        compare(versus(judged_model, tmp_path / "one", tmp_path / "two"))
    assert compare(versus(judged_model, tmp_path / "one", tmp_path / "three")).scenes["scene"].tolist() == ["cat"]
    uris = (f"file://{tmp_path}/one/cat.png", f"file://{tmp_path}/two/dog.png")
    assert len(compare(versus(judged_model, *uris)).scenes) == 1


def test_a_model_without_intervals_says_nothing_of_a_comparison_either(judged_model, pictures, tmp_path):
    judged = read_bundle(locate(judged_model))
    student = {**judged.provenance, "teacher": {"name": "t"}}
    write_bundle(locate(tmp_path / "student"), dataclasses.replace(judged, provenance=student))
    write_bundle(locate(tmp_path / "bare"), dataclasses.replace(judged, score_range=None))
    for model, problem in (("student", "it is a student"), ("bare", "no scale of human scores; name another")):
        with pytest.raises(InputError, match=problem):
            compare(versus(str(tmp_path / model), pictures, pictures))
    asked = versus(judged_model, pictures, pictures)
    with pytest.raises(InputError, match=r"score.grid is 3, .* with 2; leave score.grid at 0"):
        compare(dataclasses.replace(asked, score=dataclasses.replace(asked.score, grid=3)))


def test_folders_are_matched_by_name_without_the_ending(judged_model, pictures, tmp_path):
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    (other / "0.jpg").write_bytes(encoded(0, "JPEG"))
    (other / "sub" / "2.jpg").write_bytes(encoded(2, "JPEG"))
    (other / "9.jpg").write_bytes(encoded(9, "JPEG"))
    (other / "1.jpg").write_bytes(b"no image")
    found = compare(versus(judged_model, pictures, other))
    assert found.scenes["scene"].tolist() == ["0", "sub/2"]
    assert [Path(reason.split(": ")[0]).name for reason in found.left_out] == ["9.jpg", "1.jpg"]
    content = found.as_json()
    assert content["scenes"][1]["score_A"] == pytest.approx(100 * content["scenes"][1]["quality_A"])
    assert 0 < content["probability"] < 1
    assert content["score_low"] < content["score_difference"] < content["score_high"]


def test_folders_without_a_common_scene_and_double_names_are_refused(judged_model, pictures, tmp_path):
    (pictures / "0.jpg").write_bytes(encoded(0, "JPEG"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes(encoded(0))
    (other / "7.png").write_bytes(encoded(7))
    with pytest.raises(InputError, match=r"no scene in common.*has 0 more than once"):
        compare(versus(judged_model, pictures, other))
    with pytest.raises(InputError, match="two things to compare are needed"):
        compare(Config())


def test_few_images_score_as_in_a_large_run(score, pictures, judged_model):
    """The columns have one type whether or not there is an interval."""
    with_interval, without = score(pictures, model=judged_model).scores, score(pictures).scores
    assert with_interval["quality_low"].dtype == without["quality_low"].dtype == np.float64

"""The ablation: its statistics against SciPy, and a small one on a real Ray."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.few_shot import AdaptConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.ablation import ablation_run, arms, baselines
from pipelines.ablation.ablation_run import run_ablation
from pipelines.configuration.schema import Config
from pipelines.configuration.workloads import AblateConfig, SweepConfig, TargetConfig
from pipelines.few_shot.labelled_target import load_target
from pipelines.results.statistics import compare_methods, method_medians


def made_up_results() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"method": method, "shots": shots, "split_seed": seed, "srcc": bonus + 0.1 * rng.standard_normal()}
        for method, bonus in (("base", 0.4), ("ours", 0.5))
        for shots in (10, 25)
        for seed in range(10)
    ]
    return pd.DataFrame(rows)


def test_medians_and_quartiles_are_numpys():
    results = made_up_results()
    for row in method_medians(results).itertuples():
        values = results[(results["method"] == row.method) & (results["shots"] == row.shots)]["srcc"]
        assert (row.q1, row.median, row.q3) == pytest.approx(np.percentile(values, (25, 50, 75)))
        assert row.n == 10


def test_the_paired_test_is_scipys_split_by_split():
    results = made_up_results().sample(frac=1, random_state=0)  # the order of rows must not matter
    tests = compare_methods(results, ("base",))
    assert set(tests["method"]) == {"ours"}
    for row in tests.itertuples():
        pair = results[results["shots"] == row.shots].pivot(index="split_seed", columns="method", values="srcc")
        assert row.p == pytest.approx(stats.wilcoxon(pair["ours"], pair["base"]).pvalue)
        assert row.difference == pytest.approx(np.median(pair["ours"] - pair["base"]))


def test_lambda_is_chosen_by_validation_never_by_test():
    trials = pd.DataFrame(
        {
            "shots": 10,
            "split_seed": [0, 0, 1, 1],
            "lambda": [1.0, 5.0, 1.0, 5.0],
            "val_srcc": [0.2, 0.3, 0.4, 0.4],
            "srcc": [0.9, 0.1, 0.5, 0.6],
        }
    )
    assert arms.best_by_validation(trials)["lambda"].tolist() == [5.0, 1.0]


def test_of_a_chosen_trial_without_a_score_no_other_score_is_reported():
    trials = pd.DataFrame(
        {"shots": 10, "split_seed": 0, "lambda": [1.0, 5.0], "val_srcc": [0.2, 0.3], "srcc": [0.9, np.nan]}
    )
    assert arms.best_by_validation(trials)["srcc"].isna().all()


def test_a_method_without_a_finished_trial_is_left_out_of_the_tests():
    results = made_up_results()
    tests = compare_methods(results, ("base", "failed"))
    pd.testing.assert_frame_equal(tests, compare_methods(results, ("base",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambdas": (0.0,)}, r"sweep\.lambdas"),
        ({"search": "random", "space": {"adapt.qgr.strength": {"low": 1, "high": 10}}}, r"from sweep\.space"),
    ],
)
def test_an_ablation_that_cannot_compare_lambdas_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        run_ablation(Config(sweep=SweepConfig(**settings)))


def test_an_adapted_model_is_no_start_and_is_refused_before_any_image_is_read(tmp_path, monkeypatch):
    config = small_config(tmp_path, noisy_folder(tmp_path / "target", count=8))
    adapted = dataclasses.replace(arms.random_prompts(config), kind="model")
    write_bundle(locate(tmp_path / "bundle"), adapted)
    with pytest.raises(InputError, match="is an adapted model"):
        run_ablation(config)  # no Ray is running here


def test_baselines_see_the_images_of_the_sweep(tmp_path, monkeypatch):
    """Without Ray: the features of every image made here, one of them damaged."""
    labels = noisy_folder(tmp_path / "target")
    (tmp_path / "target" / "3.png").write_bytes(b"no picture")
    config = small_config(tmp_path, labels)
    config = dataclasses.replace(config, target=dataclasses.replace(config.target, max_reject_fraction=0.1))
    worker = baselines._Features(config.backbone, config.views, config.images, config.precision)
    monkeypatch.setattr(
        baselines,
        "_features",
        lambda config, paths: [worker({"row": row, "path": path}) for row, path in enumerate(paths)],
    )
    table = load_target(config.target).table.to_pydict()
    rows, rejected = baselines.baseline_rows(config, table)
    assert [Path(reject["path"]).name for reject in rejected] == ["3.png"]
    assert rows["method"].tolist() == [arms.NSS, arms.LINEAR, arms.LOOK]
    assert rows.set_index("method")["srcc"][arms.NSS] > 0.7  # the pictures differ in noise alone
    assert np.isfinite(rows["srcc"]).all()


@pytest.mark.ray
@pytest.mark.slow
def test_all_methods_see_the_same_images_and_equal_prompts_give_equal_rows(tmp_path, ray_instance):
    config = small_config(tmp_path, noisy_folder(tmp_path / "target"))
    write_bundle(locate(tmp_path / "bundle"), arms.random_prompts(config))
    done = run_ablation(config)
    assert isinstance(done, ablation_run.Ablation)
    srcc = done.results.set_index("method")["srcc"]
    assert srcc["adaptation"] == srcc["adaptation + same"]
    assert srcc["adaptation + QGR"] == srcc["adaptation + same + QGR"]
    assert srcc[arms.NSS] > 0.7  # the pictures differ in noise alone, and four are tested
    assert np.isfinite(srcc).all()
    text = Path(done.folder, "ablation.md").read_text()
    assert all(method in text for method in done.results["method"])
    markers = {path: path.stat().st_mtime_ns for path in Path(done.folder).rglob("trial.json")}
    pd.testing.assert_frame_equal(run_ablation(config).results, done.results)
    assert {path: path.stat().st_mtime_ns for path in markers} == markers  # no trial was run again


def small_config(folder: Path, labels: str) -> Config:
    return Config(
        output=str(folder / "run"),
        views=ViewConfig(train_views=1, score_grid=1),
        target=TargetConfig(path=labels, score_min=0, score_max=10),
        adapt=AdaptConfig(epochs=1, folds=2, lr=0.01),
        sweep=SweepConfig(lambdas=(5.0,), shots=(8,), split_seeds=(0,)),
        ablate=AblateConfig(pretrained={"same": str(folder / "bundle")}),
    )


def noisy_folder(folder: Path, count: int = 20) -> str:
    folder.mkdir()
    mos = np.linspace(9, 1, count)
    for i in range(count):
        picture = get("white_noise")(
            scenes.reference(500 + i, 230, 240), 1 + 4 * i / (count - 1), np.random.default_rng(i)
        )
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    pd.DataFrame({"image": [f"{i}.png" for i in range(count)], "mos": mos}).to_csv(folder / "labels.csv", index=False)
    return str(folder / "labels.csv")

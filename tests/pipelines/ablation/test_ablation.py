"""The ablation: its arms, baselines and statistics, and a small one on a real Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.evaluation.paired_inference import PairedDifference
from grmp_core.evaluation.protocol import ProtocolConfig
from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.procedural import scenes
from grmp_core.storage import locate
from pipelines.ablation import ablation_run, arms, baselines
from pipelines.ablation.ablation_run import run_ablation
from pipelines.ablation.comparison import Comparison, compare, comparison_table, comparisons_text
from pipelines.ablation.plan import Plan
from pipelines.ablation.predictions import WITHIN, results_of
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import AblateConfig, ArmConfig, SweepConfig
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.results.statistics import best_by_validation, method_medians


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
    assert best_by_validation(trials)["lambda"].tolist() == [5.0, 1.0]


def test_of_a_chosen_trial_without_a_score_no_other_score_is_reported():
    trials = pd.DataFrame(
        {"shots": 10, "split_seed": 0, "lambda": [1.0, 5.0], "val_srcc": [0.2, 0.3], "srcc": [0.9, np.nan]}
    )
    assert best_by_validation(trials)["srcc"].isna().all()


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
    worker = baselines._Measure(config, {"brisque", "liqe prompts"})
    monkeypatch.setattr(
        baselines,
        "_measure",
        lambda config, paths, _: [worker({"row": row, "path": path}) for row, path in enumerate(paths)],
    )
    predictions, rejected = baselines.baseline_predictions(config, load_target(config.target), arms.BASELINES)
    assert [Path(reject["path"]).name for reject in rejected] == ["3.png"]
    srcc = results_of(predictions).set_index("method")["srcc"]
    assert list(srcc.index) == list(arms.BASELINES)
    assert srcc["BRISQUE ridge"] > 0.7  # the pictures differ in noise alone
    assert np.isfinite(srcc).all()


PYIQA = """
class Metric:
    def __init__(self, name):
        self.lower_better = name == "noise"

    def __call__(self, images):
        assert images.shape[:2] == (1, 3) and 0 <= images.min() and images.max() <= 1
        spread = (images - images.mean()).abs().mean()
        return spread if self.lower_better else spread / 0


def list_models(metric_mode=None):
    assert metric_mode == "NR"
    return ["noise", "endless", "far"]


def create_metric(name, device):
    if name == "far":
        raise OSError("no network")
    return Metric(name)
"""
"""A stand-in for the package pyiqa: `noise` falls with quality, `endless` is infinite."""


@pytest.fixture
def pyiqa(tmp_path, monkeypatch):
    (tmp_path / "pyiqa.py").write_text(PYIQA)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("pyiqa", None)


def with_arms(config, *names):
    return dataclasses.replace(config, ablate=dataclasses.replace(config.ablate, arms=names))


def test_a_metric_of_pyiqa_is_an_arm_whose_scores_rise_with_quality(tmp_path, monkeypatch, pyiqa):
    config = with_arms(small_config(tmp_path, noisy_folder(tmp_path / "target")), "pyiqa noise")
    chosen = arms.chosen_arms(config)
    assert not arms.sweeps_of(config, chosen)
    worker = baselines._Measure(config, {"pyiqa noise"})
    monkeypatch.setattr(
        baselines,
        "_measure",
        lambda _, paths, extra: [worker({"row": r, "path": path}) for r, path in enumerate(paths)],
    )
    target = load_target(config.target)
    srcc = results_of(baselines.baseline_predictions(config, target, chosen)[0]).set_index("method")["srcc"]
    assert srcc["pyiqa noise"] > 0.9  # the pictures differ in noise alone


def test_a_metric_that_is_not_there_or_gives_no_number_is_one_line(tmp_path, pyiqa):
    config = small_config(tmp_path, noisy_folder(tmp_path / "target", count=8))
    with pytest.raises(InputError, match="no-reference metric 'nose'; there are noise"):
        arms.chosen_arms(with_arms(config, "pyiqa nose"))
    with pytest.raises(InputError, match=r"cannot make its metric 'far' \(no network\)"):
        arms.chosen_arms(with_arms(config, "pyiqa far"))
    row = baselines._Measure(config, {"pyiqa endless"})({"row": 0, "path": str(tmp_path / "target" / "0.png")})
    assert row["unfit"] == "pyiqa's endless gives inf"


def test_an_arm_is_a_baseline_or_a_metric():
    with pytest.raises(InputError, match=r"a baseline \(brisque\) or a metric \(musiq\), not both"):
        ArmConfig(baseline="brisque", metric="musiq")


def test_without_pyiqa_its_arms_say_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    config = small_config(tmp_path, noisy_folder(tmp_path / "target", count=8))
    with pytest.raises(InputError, match=r"'pyiqa musiq' needs the package pyiqa.*pip install pyiqa"):
        arms.chosen_arms(with_arms(config, "pyiqa musiq"))


def test_scenes_bring_a_covariate_and_a_second_table(tmp_path, monkeypatch):
    """Without Ray: pooled features that are the score itself."""
    config = small_config(tmp_path, noisy_folder(tmp_path / "target", count=40))
    named = {"scene ridge": ArmConfig(baseline="scenes")}
    ablate = dataclasses.replace(config.ablate, define=named, arms=("scene ridge",))
    with pytest.raises(InputError, match="'scene ridge' needs the scene of every image"):
        arms.chosen_arms(dataclasses.replace(config, ablate=ablate))
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(40)], "scene": ["in", "out"] * 20})
    table.to_csv(tmp_path / "scenes.csv", index=False)
    config = dataclasses.replace(config, protocol=ProtocolConfig(scenes=str(tmp_path / "scenes.csv"), folds=2))
    target = load_target(config.target)
    nothing = {"error": "", "unfit": "", "brisque": None, "liqe prompts": None, "no_label": 0.5}
    known = [{"row": i, **nothing, "pooled": np.array([mos, 0.0])} for i, mos in enumerate(target.mos)]
    monkeypatch.setattr(baselines, "_measure", lambda *_: known)
    chosen = {name: arms.standard_arms(config)[name] for name in ("no label", "scene ridge")}
    predictions, _ = baselines.baseline_predictions(config, target, chosen)
    scene_of = dict(zip(target.image_paths, target_protocol(config, target).scenes, strict=True))
    results = results_of(predictions, scene_of).set_index("method")
    assert results.loc["scene ridge", ["srcc", WITHIN]].tolist() == pytest.approx([1, 1])
    groups = {path: path for path in target.image_paths}
    found, left_out = compare(predictions, groups, "scene ridge", ["no label"], folds=2, scene_of=scene_of)
    assert left_out is None
    (row,) = comparison_table(found, []).to_dict("records")
    assert (row["difference"], row["difference_within"]) == pytest.approx((1, 1))  # a constant has SRCC 0
    assert "within scenes [95 %]" in comparisons_text(comparison_table(found, []))


def test_every_arm_is_in_one_sweep_and_equal_settings_share_it(tmp_path):
    config = small_config(tmp_path, "labels.csv")
    write_bundle(locate(tmp_path / "bundle"), arms.random_prompts(config))
    chosen = arms.chosen_arms(config)
    sweeps = arms.sweeps_of(config, chosen)
    assert sorted(name for sweep in sweeps for name in sweep.methods) == sorted(set(chosen) - set(arms.BASELINES))
    of = {name: sweep for sweep in sweeps for name in sweep.methods}
    assert of["2 blocks + same"] is of["2 blocks + same + QGR"]
    assert of["2 blocks + same"].config.sweep.lambdas == (0.0, 5.0)
    assert of["CoOp"].config.sweep.lambdas == (0.0,)
    own = config.adapt.trainable.vision_blocks
    assert of[arms.WHOLE] is of[f"{own} blocks + same"]  # the configuration's own setting
    assert (of[f"{own} blocks + ProGrad"].config.adapt.qgr.rule, of[arms.WHOLE].config.adapt.qgr.rule) == (
        "conflict",
        "agreement",
    )
    lora = of["LoRA"].config.adapt.trainable
    assert (lora.lora_rank, lora.vision_blocks, lora.text_blocks) == (arms.LORA_RANK, own, own)
    assert len({sweep.folder for sweep in sweeps}) == len(sweeps)


def test_an_arm_of_ones_own_is_data(tmp_path):
    config = small_config(tmp_path, "labels.csv")
    slow = ArmConfig(settings={"adapt.lr": 0.001})
    config = dataclasses.replace(
        config, ablate=dataclasses.replace(config.ablate, define={"slow": slow}, arms=("slow",))
    )
    (sweep,) = arms.sweeps_of(config, arms.chosen_arms(config))
    assert (sweep.config.adapt.lr, sweep.methods) == (0.001, {"slow": False})
    assert sweep.folder == "random-adapt.lr=0.001"


def test_an_arm_may_search_settings_that_the_configuration_does_not(tmp_path):
    config = small_config(tmp_path, "labels.csv")
    space = {"adapt.lr": {"low": 0.001, "high": 0.1}}
    searching = ArmConfig(settings={"sweep.search": "random", "sweep.space": space})
    config = dataclasses.replace(
        config, ablate=dataclasses.replace(config.ablate, define={"tuned": searching}, arms=("tuned",))
    )
    (sweep,) = arms.sweeps_of(config, arms.chosen_arms(config))
    assert "sweep.space.adapt.lr.low=0.001" in sweep.folder
    space |= {f"adapt.{key}": {"low": 0.001, "high": 0.1} for key in ("weight_decay", "distillation", "holdout")}
    arm = dataclasses.replace(searching, settings={**searching.settings, "sweep.space": space})
    define = {"tuned": arm, "slow": dataclasses.replace(arm, settings={**arm.settings, "adapt.lr": 0.1})}
    config = dataclasses.replace(
        config, ablate=dataclasses.replace(config.ablate, define=define, arms=("tuned", "slow"))
    )
    folders = {sweep.folder for sweep in arms.sweeps_of(config, arms.chosen_arms(config))}
    assert [len(name) for name in folders] == [150, 150], "file systems take no names of more than 255 bytes"


@pytest.mark.parametrize(
    ("ablate", "message"),
    [
        ({"arms": ("2 block",)}, "there is no arm '2 block'"),
        ({"define": {"x": ArmConfig(start="none")}, "arms": ("x",)}, "prompts 'none', which ablate.pretrained lacks"),
        ({"define": {"x": ArmConfig(settings={"adapt.qgr.strength": 1.0})}, "arms": ("x",)}, "not an arm's setting"),
    ],
)
def test_arms_that_cannot_be_run_are_refused(tmp_path, ablate, message):
    config = small_config(tmp_path, "labels.csv")
    config = dataclasses.replace(config, ablate=dataclasses.replace(config.ablate, **ablate))
    with pytest.raises(InputError, match=message):
        arms.sweeps_of(config, arms.chosen_arms(config))


def test_options_run_only_where_they_are_named(tmp_path):
    config = small_config(tmp_path, "labels.csv")
    pretrained = {name: str(tmp_path / "bundle") for name in ("same", "msrcc")}
    write_bundle(locate(tmp_path / "bundle"), arms.random_prompts(config))
    names = ("whole method", "whole method, msrcc", "attention panel", "denoise", "split ensemble")
    assert not {*names[1:]} & set(arms.chosen_arms(config))
    config = dataclasses.replace(config, ablate=dataclasses.replace(config.ablate, pretrained=pretrained, arms=names))
    with pytest.raises(InputError, match="'split ensemble' joins the label draws of a fold"):
        arms.chosen_arms(config)
    config = dataclasses.replace(
        config,
        protocol=dataclasses.replace(config.protocol, folds=2),
        sweep=dataclasses.replace(config.sweep, split_seeds=(0, 1, 2, 3)),
    )
    of = {name: sweep for sweep in arms.sweeps_of(config, arms.chosen_arms(config)) for name in sweep.methods}
    assert of["attention panel"].config.adapt.head == "attention_panel"
    assert of["denoise"].config.adapt.head == "denoise"
    assert of["split ensemble"] is of["whole method"]  # of the same models
    assert of["split ensemble"].ensembles == {"split ensemble"}
    assert of["whole method, msrcc"] is not of["whole method"]


def test_holm_is_over_all_hypotheses_of_the_family(tmp_path):
    """By hand: p .01, .02, .03 and .04 become .04, .06, .06 and .06."""
    (tmp_path / "comparisons.json").write_text('{"comparisons": [{"p": 0.01}, {"p": 0.03}]}')
    difference = PairedDifference(difference=0.1, low=0.0, high=0.2, p=0.02, draws=5, images=10)
    mine = [Comparison("a", "b", 25, difference), Comparison("a", "b", 50, dataclasses.replace(difference, p=0.04))]
    found = comparison_table(mine, [str(tmp_path)])
    assert found["p_holm"].tolist() == pytest.approx([0.06, 0.06])
    assert found["family"].tolist() == [4, 4]
    with pytest.raises(InputError, match="is missing"):
        comparison_table(mine, [str(tmp_path / "elsewhere")])


def test_what_cannot_be_compared_is_told_and_everything_else_is_written(tmp_path, monkeypatch):
    """Without Ray: two of ten images are tested, of one reference."""
    config = small_config(tmp_path, noisy_folder(tmp_path / "target", count=10))
    labels = pd.read_csv(config.target.path)
    labels.assign(reference=[str(i // 2) for i in range(10)]).to_csv(config.target.path, index=False)
    arms_run = ("no label", "LIQE prompts")
    config = dataclasses.replace(
        config,
        target=dataclasses.replace(config.target, reference_column="reference"),
        ablate=AblateConfig(arms=arms_run, method=arms_run[0], rivals=arms_run[1:]),
    )
    known = [
        {"row": i, "error": "", "unfit": "", "pooled": np.zeros(1), "no_label": i / 10, "liqe prompts": 0.5}
        for i in range(10)
    ]
    monkeypatch.setattr(baselines, "_measure", lambda *_: known)
    monkeypatch.setattr(ablation_run, "ray_session", contextlib.nullcontext)
    done = run_ablation(config)
    assert set(done.results["method"]) == set(arms_run)
    why = "1 paired comparison left out: a test part has the images of fewer than 2 references"
    assert why in Path(done.folder, "ablation.md").read_text()
    assert why in done.as_json()["left_out"]
    for name in ("predictions.parquet", "ablation.csv", "comparisons.json", "manifest.json"):
        assert Path(done.folder, name).exists()
    ablate = dataclasses.replace(config.ablate, corrected_with=(str(tmp_path / "elsewhere"),))
    with pytest.raises(InputError, match="is missing; run that ablation first"):
        run_ablation(dataclasses.replace(config, output=str(tmp_path / "other"), ablate=ablate))
    assert {path.name for path in (tmp_path / "other" / "ablation").iterdir()} == {
        "predictions.parquet",
        "ablation.csv",
    }


@pytest.mark.ray
@pytest.mark.slow
def test_all_arms_see_the_same_images_and_equal_prompts_give_equal_rows(tmp_path, ray_instance):
    config = small_config(tmp_path, noisy_folder(tmp_path / "target"))
    write_bundle(locate(tmp_path / "bundle"), arms.random_prompts(config))
    names = ("no label", "BRISQUE ridge", "0 blocks", "0 blocks + same", "0 blocks + QGR", "0 blocks + same + QGR")
    ablate = dataclasses.replace(config.ablate, arms=names, method="0 blocks", rivals=("no label", "0 blocks + same"))
    config = dataclasses.replace(config, ablate=ablate)
    plan = run_ablation(dataclasses.replace(config, ablate=dataclasses.replace(ablate, plan=True)))
    assert isinstance(plan, Plan)
    assert [row["trials"] for row in plan.rows] == [0, 2, 2]
    assert plan.hours > 0
    done = run_ablation(config)
    assert isinstance(done, ablation_run.Ablation)
    srcc = done.results.set_index("method")["srcc"]
    assert srcc["0 blocks"] == srcc["0 blocks + same"]
    assert srcc["0 blocks + QGR"] == srcc["0 blocks + same + QGR"]
    assert srcc["BRISQUE ridge"] > 0.7  # the pictures differ in noise alone, and four are tested
    assert np.isfinite(srcc).all()
    by_rival = done.comparisons.set_index("rival")
    assert by_rival["difference"]["no label"] == pytest.approx(srcc["0 blocks"] - srcc["no label"])
    assert by_rival.loc["0 blocks + same", ["difference", "low", "high", "p"]].tolist() == [0, 0, 0, 1]
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

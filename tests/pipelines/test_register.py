"""Registering, promoting and refusing; the registered model alone in a process without this project."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc import PythonModelContext
from PIL import Image

from grmp_core.bundle import LEARNED_FROM, Bundle, read_bundle, write_bundle
from grmp_core.datasets import ScoreRange
from grmp_core.errors import InputError
from grmp_core.images import ImageLimits, image_id
from grmp_core.metrics import srcc
from grmp_core.model import QualityModel
from grmp_core.prompts import PromptConfig
from grmp_core.scoring import Scorer
from grmp_core.storage import locate
from grmp_core.views import ViewConfig
from pipelines import register, served_model
from pipelines.champion import Comparison, compare, judge, verdict
from pipelines.config import Config, RegisterConfig, TrackingConfig
from pipelines.register import resolve_model

PROMPTS = PromptConfig(visual_tokens=2)
VIEWS = ViewConfig(score_grid=1)
PROJECT = Path(register.__file__).parents[1]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i in range(40):
        rng = np.random.default_rng(i)
        pixels = rng.integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(pixels).resize((40, 36), Image.Resampling.BICUBIC))
        path = folder / f"{i:02d}.png"
        path.write_bytes(png(picture))
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def make_bundle(make_backbone, tmp_path_factory: pytest.TempPathFactory):
    """seed -> folder of a bundle whose text context is random with that seed."""

    def make(seed: int, kind: str = "model") -> Path:
        backbone = make_backbone()
        digest, config = backbone.weights_sha256, backbone.config
        model = QualityModel(backbone, PROMPTS, seed=seed)
        parameters = {name: tensor * 20 for name, tensor in model.prompt_parameters().items() if "context" in name}
        bundle = Bundle(
            kind=kind, backbone=config, backbone_sha256=digest, prompts=PROMPTS, views=VIEWS, precision="fp32",
            parameters=parameters, score_range=ScoreRange(mos_min=0, mos_max=100), metrics={"srcc": 0.5},
            provenance={"lambda": 1.0, "shots": 10},
        )  # fmt: skip
        folder = tmp_path_factory.mktemp(f"trial-{seed}") / "bundle"
        write_bundle(locate(folder), bundle)
        return folder

    return make


def qualities(bundle: Path, paths: list[str]) -> np.ndarray:
    return np.array([score.quality for score in Scorer(read_bundle(locate(bundle)), "test").score(paths)])


def hold_out(bundle: Path, paths: list[str], mos: np.ndarray) -> np.ndarray:
    """Write the bundle's predictions beside it, as a sweep's trial does."""
    quality = qualities(bundle, paths)
    table = pd.DataFrame({"image_path": paths, "mos": mos, "quality": quality})
    table.to_parquet(bundle.parent / "predictions.parquet")
    return quality


class Registry(NamedTuple):
    config: Config
    register: Callable[..., register.Registration]
    bundles: dict[str, Path]
    registrations: tuple[register.Registration, ...]
    aliases: dict[str, object]


@pytest.fixture(scope="module")
def registry(make_bundle, images, mlflow_store):
    """A champion that is wrong about everything, then a candidate that is right, then one in between."""
    config = Config(output=mlflow_store.output, tracking=TrackingConfig(uri=mlflow_store.uri))

    def register_bundle(bundle: Path, **settings) -> register.Registration:
        wanted = RegisterConfig(name="tiny", bundle=str(bundle), **settings)
        return register.run(dataclasses.replace(config, register=wanted))

    bad, good = make_bundle(1), make_bundle(2)
    truth = 100 * qualities(good, images)  # human scores are what `good` says
    for bundle in (bad, good):
        hold_out(bundle, images, truth)
    first = register_bundle(bad)
    second = register_bundle(good)
    third = register_bundle(bad, allow_local_paths=True)
    aliases = mlflow.MlflowClient(tracking_uri=mlflow_store.uri).get_registered_model("tiny").aliases
    return Registry(config, register_bundle, {"bad": bad, "good": good}, (first, second, third), aliases)


def test_first_version_becomes_champion(registry) -> None:
    first = registry.registrations[0]
    assert (first.name, first.version, first.is_champion) == ("tiny", 1, True)
    assert "no champion" in first.reason


def test_better_candidate_takes_the_champions_place(registry, images) -> None:
    second = registry.registrations[1]
    assert second.is_champion
    truth = qualities(registry.bundles["good"], images)
    expected = srcc(qualities(registry.bundles["bad"], images), truth)
    assert f"SRCC 1.000 against {expected:.3f} of version 1" in second.reason


def test_worse_candidate_is_refused_with_the_numbers(registry) -> None:
    third = registry.registrations[2]
    assert not third.is_champion
    assert third.reason.startswith("champion version 2 stays: SRCC")
    assert "against 1.000 of version 2" in third.reason
    assert "the champion does not say what it has learned from" in third.reason


def test_a_champion_is_not_compared_on_what_it_has_learned_from(registry, images, tmp_path) -> None:
    """It has seen the scores of 4 of the images, then of all."""
    good = registry.bundles["good"]
    mos = 100 * qualities(good, images)
    rival = read_bundle(locate(registry.bundles["bad"]))
    ids = [image_id(Path(path).read_bytes()) for path in images]
    write_bundle(locate(tmp_path / "bundle"), dataclasses.replace(rival, provenance={LEARNED_FROM: ids[:4]}))

    def against(champion: Path) -> tuple[bool, str]:
        return judge(locate(good), "7", lambda: locate(champion), 0.0, ImageLimits())

    _, reason = against(tmp_path / "bundle")
    assert f"on the same {len(images) - 4} held-out images" in reason
    assert reason.endswith("; 4 held-out images took no part, since the champion has learned from them")
    expected = srcc(qualities(tmp_path / "bundle", images[4:]), mos[4:])
    assert f"against {expected:.3f} of version 7" in reason
    write_bundle(locate(tmp_path / "all"), dataclasses.replace(rival, provenance={LEARNED_FROM: ids}))
    promoted, reason = against(tmp_path / "all")
    assert not promoted
    assert "champion version 7 stays: 0 of" in reason


def test_aliases_and_card_in_the_registry(registry) -> None:
    client = mlflow.MlflowClient(tracking_uri=registry.config.tracking.uri)
    assert {alias: int(version) for alias, version in registry.aliases.items()} == {"champion": 2, "candidate": 3}
    card = client.get_model_version("tiny", "3").description
    assert card.startswith("# tiny\n")
    assert registry.registrations[2].reason in card
    assert "| srcc | 0.5000 |" in card
    assert "lambda: 1.0" in card


def test_registering_the_same_bundle_again_makes_no_new_version(registry) -> None:
    again = registry.register(registry.bundles["good"])
    assert (again.version, again.is_champion) == (2, True)
    assert "champion already" in again.reason


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
    """What the champion answers in a process that can import neither Ray nor this project."""
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


# --- the served model in this process ------------------------------------------------------------------------------


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


def test_no_rows_and_no_column(served) -> None:
    model = served()
    assert answer(model, []).empty
    with pytest.raises(InputError, match="column 'image'"):
        model.predict(None, pd.DataFrame({"picture": ["x"]}))


# --- back from the registry ----------------------------------------------------------------------------------------


def test_bundle_of_a_registered_model_is_fetched_with_its_backbone(registry, images) -> None:
    config, bundles = registry.config, registry.bundles
    place = resolve_model("models:/tiny@champion", config)
    bundle = read_bundle(place)
    assert Path(bundle.backbone.checkpoint).is_relative_to(Path(config.output))
    assert qualities(Path(place.path), images[:3]) == pytest.approx(qualities(bundles["good"], images[:3]))
    assert resolve_model("models:/tiny/2", config) == place


def test_a_folder_is_its_own_model(tmp_path) -> None:
    assert resolve_model(str(tmp_path), Config()).path == str(tmp_path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/tiny@unheard", r"no alias 'unheard'; it has: candidate .version \d., champion .version 2."),
        ("models:/nobody@champion", "no model 'nobody'; register one"),
        ("models:/tiny/99", "no version 99 of model 'tiny'"),
        ("models:/tiny", "write models:/name@alias"),
    ],
)
def test_what_the_registry_lacks_is_told_with_the_fix(registry, uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_model(uri, registry.config)


def test_prompts_alone_are_no_model(registry, make_bundle) -> None:
    with pytest.raises(InputError, match="adapt it to labelled images first"):
        registry.register(make_bundle(5, kind="prompts"))


def test_nothing_to_register(tmp_path) -> None:
    with pytest.raises(InputError, match=r"chosen\.json is missing; run grmp sweep"):
        register.run(Config(output=str(tmp_path)))


def test_sweep_without_a_choice_has_nothing_to_register(tmp_path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "chosen.json").write_text("{}")
    with pytest.raises(InputError, match="no trial finished"):
        register.run(Config(output=str(tmp_path)))


def test_away_server_is_bad_input_for_registering(make_bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = Config(
        output=str(tmp_path),
        tracking=TrackingConfig(uri="http://127.0.0.1:9"),
        register=RegisterConfig(bundle=str(make_bundle(6))),
    )
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 did not take the model"):
        register.run(config)


# --- the comparison ----------------------------------------------------------------------------------------------


def test_comparison_with_itself_is_zero() -> None:
    rng = np.random.default_rng(0)
    quality, mos = rng.normal(size=80), rng.normal(size=80)
    result = compare(quality, quality, mos)
    assert result.difference == 0
    assert result.lower == 0


def test_lower_bound_is_the_percentile_of_scipys_srcc_over_the_same_resamples() -> None:
    rng = np.random.default_rng(1)
    mos = np.round(rng.normal(size=30), 1)
    a, b = mos + rng.normal(size=30), mos + 2 * rng.normal(size=30)
    rows = np.random.default_rng(0).integers(30, size=(2000, 30))
    drawn = np.array([srcc(a[r], mos[r]) - srcc(b[r], mos[r]) for r in rows])
    assert compare(a, b, mos).lower == pytest.approx(np.quantile(drawn, 0.05))


def test_small_lead_on_few_images_is_not_enough() -> None:
    rng = np.random.default_rng(2)
    mos = rng.normal(size=25)
    a, b = mos + 0.50 * rng.normal(size=25), mos + 0.55 * rng.normal(size=25)
    assert compare(a, b, mos).lower < 0


def test_margin_decides() -> None:
    result = Comparison(0.9, 0.8, 0.1, 0.05, 100)
    assert verdict(result, 0.04, "3")[0]
    assert not verdict(result, 0.05, "3")[0]


def test_model_with_one_score_for_all_ranks_nothing() -> None:
    mos = np.arange(30.0)
    result = compare(mos, np.full(30, 0.5), mos)
    assert (result.champion, result.difference) == (0, 1)
    assert result.lower == pytest.approx(1)


def test_without_predictions_the_champion_stays(make_bundle) -> None:
    place = locate(make_bundle(7))
    promoted, reason = judge(place, "4", lambda: place, 0.0, ImageLimits())
    assert not promoted
    assert reason.startswith("champion version 4 stays: there are no held-out predictions")


def test_the_better_model_is_known_by_labels_where_less_is_better(make_bundle, images) -> None:
    good, bad = make_bundle(9), make_bundle(10)
    quality = qualities(good, images)
    for folder in (good, bad):
        bundle = read_bundle(locate(folder))
        write_bundle(
            locate(folder),
            dataclasses.replace(bundle, score_range=ScoreRange(mos_min=0, mos_max=100, higher_is_better=False)),
        )
        hold_out(folder, images, 100 * (1 - quality))
    assert judge(locate(good), "4", lambda: locate(bad), 0.0, ImageLimits())[0]
    promoted, reason = judge(locate(bad), "4", lambda: locate(good), 0.0, ImageLimits())
    assert not promoted
    assert "against 1.000" in reason


def test_held_out_images_may_lie_elsewhere(make_bundle, images) -> None:
    folder = make_bundle(11)
    hold_out(folder, images, np.arange(40.0))
    table = pd.read_parquet(folder.parent / "predictions.parquet")
    elsewhere = table.assign(image_path=[Path(path).as_uri() for path in images])
    elsewhere.to_parquet(folder.parent / "predictions.parquet")
    reason = judge(locate(folder), "4", lambda: locate(folder), 0.0, ImageLimits())[1]
    assert "on the same 40 held-out images" in reason


def test_too_few_readable_images_decide_nothing(make_bundle, images) -> None:
    folder = make_bundle(8)
    hold_out(folder, images, np.arange(40.0))
    table = pd.read_parquet(folder.parent / "predictions.parquet")
    table.loc[9:, "image_path"] = "/nowhere.png"
    table.to_parquet(folder.parent / "predictions.parquet")
    promoted, reason = judge(locate(folder), "4", lambda: locate(folder), 0.0, ImageLimits())
    assert not promoted
    assert "9 of 40 held-out images can be read and are new to it, 10 are needed" in reason

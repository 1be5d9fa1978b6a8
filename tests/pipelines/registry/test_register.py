"""Registering, promoting and refusing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

import pipelines
from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import srcc
from grmp_core.imaging.decoding import ImageLimits, image_id, read_image
from grmp_core.model.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.model.differentiable import load
from grmp_core.storage import locate
from pipelines.cli import run_command
from pipelines.configuration.models import RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.registry.champion_decision import judge
from pipelines.registry.registration import register_model
from pipelines.scoring.model_lookup import resolve_model
from pipelines.scoring.registered_models import REFERENCE_SCORES
from tests.pipelines.registry.bundles import hold_out, qualities


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
    aliases = {alias: int(version) for alias, version in registry.aliases.items()}
    assert aliases == {"champion": 2, "candidate": 3, "challenger": 3}
    card = client.get_model_version("tiny", "3").description
    assert card.startswith("# tiny\n")
    assert registry.registrations[2].reason in card
    assert "| srcc | 0.5000 |" in card
    assert "lambda: 1.0" in card


def test_registering_the_same_bundle_again_makes_no_new_version(registry) -> None:
    again = registry.register(registry.bundles["good"])
    assert (again.version, again.is_champion) == (2, True)
    assert "champion already" in again.reason


def test_bundle_of_a_registered_model_is_fetched_with_its_backbone(registry, images) -> None:
    config, bundles = registry.config, registry.bundles
    name, place = resolve_model("models:/tiny@champion", config)
    assert name == "models:/tiny/2"
    bundle = read_bundle(place)
    assert Path(bundle.backbone.checkpoint).is_relative_to(Path(config.output))
    assert qualities(Path(place.path), images[:3]) == pytest.approx(qualities(bundles["good"], images[:3]))
    assert resolve_model("models:/tiny/2", config) == (name, place)


def test_a_registered_model_is_a_torch_module(registry, images) -> None:
    settings = {"output": registry.config.output, "tracking_uri": registry.config.tracking.uri}
    model = pipelines.load_model("models:/tiny@champion", **settings)
    pixels = torch.from_numpy(read_image(images[0])).permute(2, 0, 1)[None] / 255
    assert model(pixels).tolist() == pytest.approx(qualities(registry.bundles["good"], images[:1]), abs=1e-5)
    assert model.score_range.to_mos(0.5) == 50
    with pytest.raises(InputError, match="no alias 'unheard'"):
        pipelines.load_model("models:/tiny@unheard", **settings)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipelines.nothing


def test_a_registered_model_becomes_one_file(registry, images, capsys):
    settings = [f"output={registry.config.output}", f"tracking.uri={registry.config.tracking.uri}"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert run_command("export", ["models:/tiny@champion", "--to", "safetensors", *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("models:/tiny/2 as safetensors: ")
    model = load(Path(registry.config.output) / "export" / "model.safetensors")
    pixels = torch.from_numpy(read_image(images[0])).permute(2, 0, 1)[None] / 255
    assert model(pixels).item() == pytest.approx(qualities(registry.bundles["good"], images[:1])[0], abs=1e-5)


def test_a_folder_is_its_own_model(tmp_path) -> None:
    assert resolve_model(str(tmp_path), Config()).folder.path == str(tmp_path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "models:/tiny@unheard",
            r"no alias 'unheard'; it has: candidate .version \d., challenger .version 3., champion .version 2.",
        ),
        ("models:/nobody@champion", "no model 'nobody'; register one"),
        ("models:/tiny/99", "no version 99 of model 'tiny'"),
        ("models:/tiny", "write models:/name@alias"),
    ],
)
def test_what_the_registry_lacks_is_told_with_the_fix(registry, uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_model(uri, registry.config)


def test_a_version_without_held_out_images_notes_no_scores(registry, make_bundle) -> None:
    bundle = make_bundle(13)
    hold_out(bundle, [], np.empty(0))
    done = register_model(
        dataclasses.replace(registry.config, register=RegisterConfig(name="untested", bundle=str(bundle)))
    )
    client = mlflow.MlflowClient(tracking_uri=registry.config.tracking.uri)
    assert REFERENCE_SCORES not in client.get_model_version("untested", str(done.version)).tags


def test_prompts_alone_are_no_model(registry, make_bundle) -> None:
    with pytest.raises(InputError, match="adapt them to labelled images first"):
        registry.register(make_bundle(5, kind="prompts"))


def test_nothing_to_register(tmp_path) -> None:
    with pytest.raises(InputError, match="has chosen no model, since it has not ended"):
        register_model(Config(output=str(tmp_path)))


def test_sweep_without_a_choice_has_nothing_to_register(tmp_path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "chosen.json").write_text("{}")
    with pytest.raises(InputError, match="no trial finished"):
        register_model(Config(output=str(tmp_path)))


def test_away_server_is_bad_input_for_registering(make_bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = Config(
        output=str(tmp_path),
        tracking=TrackingConfig(uri="http://127.0.0.1:9"),
        register=RegisterConfig(bundle=str(make_bundle(6))),
    )
    with pytest.raises(
        InputError, match=r"model grmp-iqa cannot be registered: no MLflow store answers at http://127\.0\.0\.1:9 "
    ):
        register_model(config)

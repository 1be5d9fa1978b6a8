"""The configuration: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from grmp_core.errors import InputError
from pipelines.configuration.loading import as_dict, build, load_config
from pipelines.configuration.schema import Config

ROOT = Path(__file__).resolve().parents[3]


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(str(tmp_path / "empty.yaml")) == Config()


def test_the_shipped_file_is_valid():
    config = load_config(str(ROOT / "ray_config.yaml"))
    assert config.adapt.qgr.strength == 5.0
    assert config.sweep.lambdas == (0.0, 1.0, 5.0)


def test_it_survives_a_round_trip_through_plain_types():
    config = load_config(None, ["sweep.shots=[25, 50]", "adapt.qgr.strength=1", "prompts.phrases=[a., b.]"])
    assert build(Config, as_dict(config), "") == config


def test_overrides_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("meta: {outer_steps: 7, inner_lr: 1e-3}\n")
    config = load_config(str(tmp_path / "c.yaml"), ["meta.outer_steps=9"])
    assert config.meta.outer_steps == 9
    assert config.meta.inner_lr == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("swep: {}", "swep is unknown; did you mean sweep"),
        ("sweep: {lamdas: [1]}", r"sweep.lamdas is unknown; did you mean sweep.lambdas"),
        ("adapt: {qgr: {strenght: 1}}", r"adapt.qgr.strenght is unknown; did you mean adapt.qgr.strength"),
        ("seed: one", "seed must be a whole number, not 'one'"),
        ("seed: true", "seed must be a whole number"),
        ("meta: {inner_lr: fast}", "meta.inner_lr must be a number"),
        ("synthesize: {references: -5}", r"synthesize.references -5: use 0 or more"),
        ("synthesize: {short_side_px: -1}", r"synthesize.short_side_px -1: use 0 or more"),
        ("synthesize: {max_reject_fraction: -0.1}", "use a number from 0 to 1"),
        ("ablate: {pretrained: {5: runs/five}}", "must be a name and a bundle's folder"),
        ("sweep: {lambdas: 5}", "sweep.lambdas must be a list"),
        ("sweep: {shots: [1.5]}", r"sweep.shots\[0\] must be a whole number"),
        ("precision: fp8", "precision must be one of fp32, bf16"),
        ("prompts: {phrases: [good]}", "must have 2 entries"),
        ("sweep: 3", "sweep must be a section"),
        ("- a\n- b", "must hold sections"),
        ("a: 1\nb: [2", "line 2"),
        ("sweep: {shots: [5], ratios: [0.5]}", "either sweep.shots or sweep.ratios"),
        ("sweep: {lambdas: [-1]}", "finite numbers >= 0"),
        ("synthesize: {source: photos}", "synthesize.path"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(str(tmp_path / "c.yaml"))


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_config(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="cannot be read"):
        load_config(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match=r"cannot be read|not YAML|special characters"):
        load_config(str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize("override", ["novalue", "=3", "seed.x=1", "seed=[1"])
def test_overrides_that_cannot_be_read_are_refused(override):
    with pytest.raises(InputError, match="--set"):
        load_config(None, ["seed=1", override])


def test_shots_of_the_command_line_take_the_place_of_ratios_of_the_file(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("sweep: {ratios: [0.5], lambdas: [1]}")
    wanted = load_config(str(file), ["sweep.shots=[5]"]).sweep
    assert (wanted.shots, wanted.ratios, wanted.lambdas) == ((5,), (), (1.0,))
    file.write_text("sweep: {shots: [5]}")
    wanted = load_config(str(file), ["sweep.ratios=[0.5]"]).sweep
    assert (wanted.shots, wanted.ratios) == ((), (0.5,))
    with pytest.raises(InputError, match=r"either sweep\.shots or sweep\.ratios"):
        load_config(str(file), ["sweep.ratios=[0.5]", "sweep.shots=[5]"])

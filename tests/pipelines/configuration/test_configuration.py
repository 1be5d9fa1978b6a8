"""The configuration: what is refused, and with which words."""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.learning.settings import MetaConfig
from grmp_core.settings import PathText, bare_type, field_types, without_null
from pipelines.configuration.field_help import field_docs
from pipelines.configuration.loading import as_dict, config_of, load_config, with_settings
from pipelines.configuration.schema import Config

ROOT = Path(__file__).resolve().parents[3]


def all_fields(section: type = Config, where: str = "") -> Iterator[tuple[str, type, str, Any]]:
    """Dotted key, section, name and type of every setting."""
    for name, hint in field_types(section).items():
        bare, _ = bare_type(hint)
        if dataclasses.is_dataclass(bare):
            yield from all_fields(bare, f"{where}{name}.")
        else:
            yield f"{where}{name}", section, name, hint


def setting(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)


def test_an_empty_file_without_a_preset_is_the_built_in_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("preset: none\n# meta:\nsweep:\n")
    assert load_config(str(tmp_path / "empty.yaml")) == dataclasses.replace(Config(), preset="none")


def test_the_shipped_file_is_valid():
    config = load_config(str(ROOT / "ray_config.yaml"))
    assert config.adapt.qgr.strength == 0.1  # of the preset
    assert config.sweep.lambdas == (0.0, 1.0, 5.0)


def test_it_survives_a_round_trip_through_plain_types():
    config = load_config(None, ["sweep.shots=[25, 50]", "adapt.qgr.strength=1", "prompts.phrases=[a., b.]"])
    assert config_of(as_dict(config)) == config
    assert config_of({}) == Config()
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301  # the way to the workers


def test_what_is_out_of_range_is_refused_by_every_way_in():
    with pytest.raises(InputError, match=r"meta\.outer_steps must be a whole number, 1 or more, not 0"):
        load_config(None, ["meta.outer_steps=0"])
    with pytest.raises(InputError, match=r"meta\.outer_steps must be"):
        with_settings(Config(), {"meta.outer_steps": 0})
    with pytest.raises(InputError, match=r"MetaConfig\.outer_steps must be"):
        dataclasses.replace(Config().meta, outer_steps=0)


def test_every_setting_has_a_doc():
    assert [key for key, section, name, _ in all_fields() if not field_docs(section).get(name)] == []
    sections = {section for _, section, _, _ in all_fields()}
    assert [section.__name__ for section in sections if not field_docs(section)[""]] == []


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
        ("seed: one", r"seed must be a whole number, from 0 to \d+, not 'one'"),
        ("seed: true", "seed must be a whole number"),
        ("seed: -1", "seed must be a whole number, from 0 to 9223372036854775807, not -1"),
        ("seed: 9223372036854775808", "seed must be a whole number, from 0 to 9223372036854775807, not"),
        ("meta: {inner_lr: fast}", "meta.inner_lr must be a number"),
        (
            "seed: 010",
            r"seed must be a whole number, from 0 to \d+, not '010'; write plain digits, without a leading zero",
        ),
        ("seed: 3_5", r"seed must be a whole number, from 0 to \d+, not '3_5'; write plain digits"),
        ("seed: 1:30", r"seed must be a whole number, from 0 to \d+, not '1:30'; write plain digits"),
        ("seed: 1.0", r"seed must be a whole number, from 0 to \d+, not 1.0"),
        ("seed: null", r"seed must be a whole number, from 0 to \d+, not null"),
        ("output: ~", "output must be text, at least one character, not null"),
        ("target: {higher_is_better: yes}", "target.higher_is_better must be true or false, not 'yes'"),
        ("adapt: {lr: .inf}", "adapt.lr must be a number, 0 or more, not inf"),
        ("synthesize: {references: -5}", r"synthesize.references must be a whole number, 0 or more, not -5"),
        ("synthesize: {short_side_px: -1}", r"synthesize.short_side_px must be a whole number, 0 or more, not -1"),
        ("synthesize: {max_reject_fraction: -0.1}", "must be a number, from 0 to 1, not -0.1"),
        ("ablate: {pretrained: {five: [runs]}}", r"ablate.pretrained.five must be text, not \['runs'\]"),
        ("sweep: {lambdas: 5}", r"sweep.lambdas must be a list of one or more, .*, not 5; write \[5\]"),
        ("sweep: {lambdas: [1, x], shots: [0]}", r"sweep.lambdas\[1\] must be a number.* \(and 1 more\)"),
        ("target: {max_rejects: 0.1}", "target.max_rejects is now target.max_reject_fraction"),
        ("target: {max_missing_fraction: 1}", "target.max_missing_fraction is now target.max_reject_fraction"),
        ("preset: vit-l", "preset must be one of auto, none, grmp-nano, vit-b-16, not 'vit-l'"),
        ("sweep: {shots: [1.5]}", r"sweep.shots\[0\] must be a whole number"),
        ("precision: fp8", "precision must be one of fp32, bf16"),
        ("prompts: {phrases: [good]}", r"prompts.phrases must be a list of 2, each entry text, not \['good'\]"),
        ("sweep: 3", "sweep must be a section"),
        ("- a\n- b", "must hold sections"),
        ("a: 1\nb: [2", "line 2"),
        ("sweep: {shots: [5], ratios: [0.5]}", "either sweep.shots or sweep.ratios"),
        ("sweep: {lambdas: [-1]}", r"sweep.lambdas\[0\] must be a number, 0 or more, not -1"),
        ("synthesize: {source: photos}", "synthesize.path"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(str(tmp_path / "c.yaml"))
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_config(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="cannot be read"):
        load_config(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match=r"cannot be read|not YAML|special characters"):
        load_config(str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize("override", ["novalue", "=3", "seed.x=1", "seed=[1", "seed=3 # or 4"])
def test_overrides_that_cannot_be_read_are_refused(override):
    with pytest.raises(InputError, match="--set"):
        load_config(None, ["seed=1", override])


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_in_the_place_of_a_section_is_one_line_whatever_the_order(order):
    with pytest.raises(InputError, match=r"^--set sweep\.shots: 'sweep' is a value, not a section$"):
        load_config(None, ["sweep.shots=[1]", "sweep=5"][::order])


def test_shots_of_the_command_line_take_the_place_of_ratios_of_the_file(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("sweep: {ratios: [0.5], lambdas: [1]}")
    sweep = load_config(str(file), ["sweep.shots=[5]"]).sweep
    assert (sweep.shots, sweep.ratios, sweep.lambdas) == ((5,), (), (1.0,))
    file.write_text("sweep: {shots: [5]}")
    sweep = load_config(str(file), ["sweep.ratios=[0.5]"]).sweep
    assert (sweep.shots, sweep.ratios) == ((), (0.5,))
    with pytest.raises(InputError, match=r"either sweep\.shots or sweep\.ratios"):
        load_config(str(file), ["sweep.ratios=[0.5]", "sweep.shots=[5]"])


TEXTS = [key for key, _, _, hint in all_fields() if bare_type(hint)[0] is str and key != "register.name"]


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("text", ["/x/take #2", "010", "yes", "a/b@c", "'x'", "1e-4", "[1", "x: y", "*x", "a=b"])
def test_set_takes_a_text_as_it_is(key, text):
    text = f"{text}.html" if key == "preview.output" else text
    assert setting(load_config(None, [f"{key}={text}"]), key) == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1))
def test_set_takes_any_name_as_it_is(name):
    assert load_config(None, [f"target.note={name}"]).target.note == name


def test_a_file_takes_numbers_as_text_where_a_setting_holds_text(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "output: 010\ntarget: {score_column: 2024, note: 1.50}\nsynthesize: {tasks: [5, true]}"
    )
    config = load_config(str(tmp_path / "c.yaml"))
    assert (config.output, config.target.score_column, config.target.note) == ("010", "2024", "1.50")
    assert config.synthesize.tasks == ("5", "true")


def test_set_of_null_and_of_nothing():
    config = load_config(None, ["target.path=null", "register.bundle=", "target.score_min=", "target.note="])
    assert (config.target.path, config.register.bundle, config.target.score_min) == (None, None, None)
    assert config.target.note == ""
    with pytest.raises(InputError, match="output must be text, at least one character, not ''"):
        load_config(None, ["output="])


def test_every_path_has_the_home_folder_for_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    singles = [key for key, _, _, hint in all_fields() if bare_type(hint)[1] and PathText in (without_null(hint),)]
    assert {"target.path", "synthesize.path", "backbone.checkpoint", "score.model", "register.bundle"} <= {*singles}
    for key in (*singles, "output"):
        assert setting(load_config(None, [f"{key}=~/x.html"]), key) == "/home/someone/x.html"
    config = load_config(None, ["score.images=[~/a, s3://b/~c, d~]", "ablate.pretrained={one: ~/b}"])
    assert config.score.images == ("/home/someone/a", "s3://b/~c", "d~")
    assert config.ablate.pretrained == {"one": "/home/someone/b"}
    assert load_config(None, ["target.note=~/x"]).target.note == "~/x"


def test_a_name_that_is_not_utf_8_passes_as_a_path_and_nowhere_else():
    name = os.fsdecode(b"caf\xe9.jpg")
    config = load_config(None, [f"output={name}"], {"score.images": [name, "\N{SKULL}.jpg"]})
    assert (config.output, config.score.images) == (name, (name, "\N{SKULL}.jpg"))
    assert config_of(as_dict(config)) == config
    with pytest.raises(InputError, match=r"RegisterConfig\.name must be text"):
        load_config(None, [f"register.name={name}"])


def test_keys_with_dots_of_a_free_section():
    config = load_config(None, ["sweep.search=random", "sweep.space.adapt.lr={low: 0.1, high: 1}"])
    assert config.sweep.space == {"adapt.lr": {"low": 0.1, "high": 1}}


def test_later_overrides_win_also_over_whole_sections():
    config = load_config(None, ["adapt.epochs=3", "adapt={epochs: 4, folds: 2}", "adapt.folds=5"])
    assert (config.adapt.epochs, config.adapt.folds) == (4, 5)


def test_compiled_blocks_are_not_for_maml():
    maml = MetaConfig(algorithm="maml", inner_optimizer="sgd")
    with pytest.raises(InputError, match="differentiated twice"):
        Config(compile=True, meta=maml)
    assert Config(compile=True).compiler == "inductor"
    assert Config(meta=maml).compiler is None


def test_a_fold_or_a_fraction_of_the_target_tests_a_trial():
    assert load_config(None, ["sweep.test_fraction=0.3"]).test_share == 0.3
    assert load_config(None, ["sweep.test_fraction=0.3", "protocol.folds=5"]).test_share == 0.2

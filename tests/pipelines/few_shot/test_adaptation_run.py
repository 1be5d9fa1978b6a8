"""`grmp adapt` with the lambda and settings of a sweep, without Ray."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines import adapt
from pipelines.cli import run_command
from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import results_frame
from pipelines.results.trial import Choice


@pytest.fixture
def ran_with(monkeypatch) -> list[Config]:
    """The configurations that `grmp adapt` was run with; it adapts nothing."""
    configs: list[Config] = []

    def keep(config: Config) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(as_text=lambda: "done")

    monkeypatch.setattr(adapt, "run", keep)
    return configs


def write_choice(output, settings=None) -> None:
    chosen = Choice(strength=2.5, settings=settings, shots=5, trial="t", bundle="b", reason="best")
    SweepFolder.of(str(output)).write_results(results_frame([]), chosen)


def test_lambda_and_searched_settings_are_the_sweep_s_choice(tmp_path, ran_with, capsys):
    write_choice(tmp_path, {"adapt.lr": 0.25, "adapt.epochs": 7, "adapt.qgr.strength": 2.5})
    file = tmp_path / "config.yaml"
    file.write_text(f"output: {tmp_path}\nadapt: {{lr: 0.1, folds: 2, qgr: {{strength: 1}}}}\n")
    assert run_command("adapt", ["--config", str(file)]) == 0
    (config,) = ran_with
    assert config.adapt.qgr.strength == 2.5
    assert (config.adapt.lr, config.adapt.epochs, config.adapt.folds) == (0.25, 7, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "adapt: adapt.qgr.strength 2.5, adapt.epochs 7, adapt.lr 0.25, as the sweep at" in line


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("adapt.qgr.strength=1", (1.0, 0.25)),
        ("adapt.qgr={strength: 1}", (1.0, 0.25)),
        ("adapt={lr: 0.5}", (0.1, 0.5)),
        ("adapt.lr=0.5", (2.5, 0.5)),
        ("adapt.l=0.5", None),
    ],
)
def test_what_the_command_line_sets_stays(tmp_path, ran_with, setting, expected):
    write_choice(tmp_path, {"adapt.lr": 0.25})
    code = run_command("adapt", ["--set", f"output={tmp_path}", "--set", setting])
    assert [(config.adapt.qgr.strength, config.adapt.lr) for config in ran_with] == ([expected] if expected else [])
    assert code == (0 if expected else 2)


def test_without_a_choice_the_configuration_s_lambda_is_taken(tmp_path, ran_with, capsys):
    assert run_command("adapt", ["--set", f"output={tmp_path}"]) == 0
    assert ran_with[0].adapt == load_config(None).adapt
    assert capsys.readouterr().err == ""
